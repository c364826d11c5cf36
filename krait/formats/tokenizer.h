// Text to token ids and back. Token strings are bytes: a token may hold half a UTF-8 character, so decoded text
// goes through TokenDecoder, which never emits an incomplete character.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/config.h"

namespace krait::formats {

using TokenId = std::int32_t;

// Encodes a text that arrives in pieces, in memory that does not grow with the text. The ids of all calls together
// are those of Tokenizer::encode on the whole text.
class TokenEncoder {
 public:
  virtual ~TokenEncoder() = default;
  // Appends the ids that are already certain to `ids`.
  virtual void feed(std::string_view bytes, std::vector<TokenId>& ids) = 0;
  virtual void finish(std::vector<TokenId>& ids) = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::string_view kind() const = 0;  // "bpe", "unigram", "sentencepiece", "world"
  virtual std::int64_t size() const = 0;      // ids are 0 … size()-1 (there may be holes)

  // Added and special tokens that stand in the text are recognised. No token is added at the start or end: callers
  // that want BOS ask bos(). Never fails: bytes that are not UTF-8 are encoded as the format allows (byte
  // tokens, byte fallback, or the unknown token).
  virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  virtual std::unique_ptr<TokenEncoder> encoder() const = 0;

  // The bytes of a text. `skip_special` drops special tokens (such as <|endoftext|>).
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special) const = 0;
  // The bytes of one token as they appear within text; empty for ids outside the vocabulary. decode joins these,
  // and drops start_drop() once from the first token that is not empty (the space that encoding put there).
  // Both live as long as the tokenizer.
  virtual std::string_view token_bytes(TokenId id) const = 0;
  virtual std::string_view start_drop() const = 0;

  virtual std::optional<TokenId> token_to_id(std::string_view token) const = 0;
  virtual std::string id_to_token(TokenId id) const = 0;  // as the vocabulary spells it
  virtual bool is_special(TokenId id) const = 0;
  // What the tokenizer's own files name as the beginning and end of text, where they do.
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  // Whether the tokenizer's files say that BOS goes before a prompt.
  virtual bool adds_bos() const = 0;
};

// Decodes a stream of tokens into text: holds back bytes until they complete a UTF-8 character; bytes that can
// never become one come out as U+FFFD. Everything a caller sees is valid UTF-8.
class TokenDecoder {
 public:
  explicit TokenDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  std::string feed(TokenId id);
  std::string finish();  // what is held back, incomplete characters as U+FFFD

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string pending_;   // bytes of an incomplete character
  bool at_start_ = true;  // start_drop() is still to be dropped
};

// Opens the tokenizer of a model: a directory (tokenizer.json, else tokenizer.model or *.model.v*, else
// rwkv_vocab_v*.txt), one of those files by name, or a GGUF file.
Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::filesystem::path& path);

// The parsers behind it; all take untrusted bytes.
Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view json, const std::string& origin);
Result<std::unique_ptr<Tokenizer>> parse_sentencepiece_model(std::string_view bytes, const std::string& origin);
// rwkv_vocab_v*.txt of RWKV's World models.
Result<std::unique_ptr<Tokenizer>> parse_world_vocabulary(std::string_view text, const std::string& origin);
// `metadata`: the keys of a GGUF ("tokenizer.ggml.model", "tokenizer.ggml.tokens", …). kNotFound when the file
// carries no tokenizer (model "none").
Result<std::unique_ptr<Tokenizer>> tokenizer_from_gguf(const Config& metadata);

}  // namespace krait::formats
