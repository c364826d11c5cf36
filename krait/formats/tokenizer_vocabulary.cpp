// Building the vocabulary from untrusted pairs.
#include "krait/formats/tokenizer_vocabulary.h"

#include <algorithm>

namespace krait::formats {

Result<Vocabulary> Vocabulary::build(std::vector<std::pair<std::string, std::int64_t>> tokens,
                                     const std::string& origin) {
  std::int64_t highest = -1;
  for (const auto& [token, id] : tokens) {
    if (id < 0 || id > kMaxId) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] token '{}' has id {}, outside 0 to {} ({})", token, id, kMaxId,
                  origin);
    }
    highest = std::max(highest, id);
  }
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (highest >= 65536 + 64 * count) {
    return fail(ErrorCode::kCorrupt, "[tokenizer] vocabulary of {} tokens names id {} ({})", count, highest, origin);
  }
  Vocabulary vocabulary;
  vocabulary.tokens_.resize(static_cast<std::size_t>(highest + 1));
  vocabulary.present_.resize(static_cast<std::size_t>(highest + 1));
  vocabulary.ids_.reserve(tokens.size());
  for (auto& [token, id] : tokens) {
    const auto index = static_cast<std::size_t>(id);
    vocabulary.ids_.insert_or_assign(token, static_cast<TokenId>(id));
    vocabulary.tokens_[index] = std::move(token);
    vocabulary.present_[index] = true;
  }
  return vocabulary;
}

std::optional<TokenId> Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

}  // namespace krait::formats
