// Byte-pair encoding (Sennrich et al. 2016): start from single characters or bytes and merge the adjacent pair of the
// lowest rank, the leftmost one of equals, until no pair is in the table.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer_model.h"
#include "krait/formats/tokenizer_vocabulary.h"

namespace krait::formats {

// (left, right) -> (rank, merged token): open addressing with linear probing, at most half full.
class MergeTable {
 public:
  struct Merge {
    std::uint32_t rank = kNoMerge;
    TokenId token = 0;
  };
  static constexpr std::uint32_t kNoMerge = 0xFFFFFFFF;

  explicit MergeTable(std::size_t merges = 0);
  void insert(TokenId left, TokenId right, Merge merge);  // the last insertion of a pair stands
  Merge find(TokenId left, TokenId right) const;

 private:
  struct Slot {
    std::uint64_t key;
    Merge merge;
  };
  std::size_t slot_of(std::uint64_t key) const;
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
  int shift_ = 64;
};

struct BpeParts {
  // Tokens in the model's own alphabet. With `bytes`, that is raw bytes and every byte is a symbol by itself;
  // otherwise symbols are the characters of UTF-8 text.
  bool bytes = false;
  std::vector<std::pair<std::string, TokenId>> tokens;
  MergeTable merges;
  // Ids from here on stand for characters that merges need but the vocabulary lacks; they never come out.
  TokenId first_virtual = Vocabulary::kMaxId + 1;
  std::optional<TokenId> unknown;
  bool fuse_unknown = false;   // one unknown token for a run of unknown characters
  bool byte_fallback = false;  // unknown characters become <0xXX> tokens
  bool ignore_merges = false;  // a piece that is a token is that token, whatever the merges say
};

std::unique_ptr<TokenModel> make_bpe_model(BpeParts parts);

// The merges that scores imply (SentencePiece's BPE): any two tokens whose concatenation is a token merge, higher
// scores first. Characters that are no tokens get ids from parts.first_virtual, which this sets.
void add_scored_merges(const std::vector<float>& score_of_id, std::int64_t vocabulary_size, BpeParts& parts);

}  // namespace krait::formats
