// The vocabulary as its file spells it: token <-> id, with holes. Not the bytes that tokens stand for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "krait/formats/tokenizer.h"

namespace krait::formats {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using TokenMap = std::unordered_map<std::string, TokenId, StringHash, std::equal_to<>>;

class Vocabulary {
 public:
  static constexpr std::int64_t kMaxId = 1 << 24;

  // Refuses negative ids, ids beyond kMaxId, and ids so far beyond the number of tokens that the table of a small
  // file would fill memory.
  static Result<Vocabulary> build(std::vector<std::pair<std::string, std::int64_t>> tokens, const std::string& origin);

  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }
  bool has(TokenId id) const { return id >= 0 && id < size() && present_[static_cast<std::size_t>(id)]; }
  const std::string& token(TokenId id) const { return tokens_[static_cast<std::size_t>(id)]; }  // requires has(id)
  std::optional<TokenId> find(std::string_view token) const;

 private:
  std::vector<std::string> tokens_;
  std::vector<bool> present_;
  TokenMap ids_;
};

}  // namespace krait::formats
