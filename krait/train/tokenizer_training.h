// Trains a byte-level BPE tokenizer (Sennrich et al. 2016; bytes as in GPT-2): beginning with the 256 bytes, the pair
// of neighbours that stands most often in the text becomes a token, again and again.
//
// Ids: the special tokens in their order, then the bytes 0 to 255, then the merged tokens as they were found. Of pairs
// that are equally frequent the one is taken whose left token comes last in the order of how files spell tokens
// (formats/tokenizer_byte_alphabet.h), then the one whose right token does: a text gives one tokenizer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/tokenizer_words.h"

namespace krait::train {

struct TokenizerTrainingOptions {
  std::int64_t vocabulary = 2048;                               // tokens in all, at most
  std::vector<std::string> special_tokens = {"<|endoftext|>"};  // the first ends a text
  std::string split = "gpt-2";                                  // formats/tokenizer_split_schemes.h
  std::int64_t least_count = 2;                                 // a pair rarer than this is no token
};

struct TrainedTokenizer {
  TokenizerTrainingOptions options;
  std::vector<std::string> tokens;                            // bytes of each id
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;  // ids, in the order they were found
};

// The files of Hugging Face: tokenizer.json and tokenizer_config.json.
struct TokenizerFiles {
  std::string tokenizer, config;
};
Result<TokenizerFiles> tokenizer_files(const TrainedTokenizer& trained);

class TokenizerTrainer {
 public:
  // kInvalidArgument for options that make no tokenizer; each is named.
  static Result<TokenizerTrainer> make(TokenizerTrainingOptions options);

  bool read(std::string_view text, const WordCounter::ProgressFunction& progress = {}) {
    return words_.read(text, progress);
  }
  const WordCounter& words() const { return words_; }
  // `progress` is told how many of how many tokens there are; what it answers says whether to go on (kCancelled when
  // not). A text that has no more pairs gives fewer tokens than were asked for.
  using ProgressFunction = std::function<bool(std::int64_t done, std::int64_t total)>;
  Result<TrainedTokenizer> train(const ProgressFunction& progress = {}) const;

 private:
  TokenizerTrainer(TokenizerTrainingOptions options, WordCounter words)
      : options_(std::move(options)), words_(std::move(words)) {}
  TokenizerTrainingOptions options_;
  WordCounter words_;
};

}  // namespace krait::train
