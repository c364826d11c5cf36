#include "krait/runtime/constraint_vocabulary.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace krait::runtime {

std::shared_ptr<const ConstraintVocabulary> ConstraintVocabulary::of(const formats::Tokenizer& tokenizer,
                                                                     std::optional<std::int64_t> drawable) {
  const std::int64_t size = std::min(tokenizer.size(), drawable.value_or(tokenizer.size()));
  std::vector<std::string> tokens(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (!tokenizer.is_special(id)) tokens[i] = tokenizer.token_bytes(id);
  }
  return std::make_shared<const ConstraintVocabulary>(std::move(tokens));
}

ConstraintVocabulary::ConstraintVocabulary(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    std::string& bytes = tokens_[i];
    // No file has a token of 64 kB; one that did would be left out.
    if (bytes.size() > std::numeric_limits<std::uint16_t>::max()) bytes.clear();
    if (bytes.empty()) continue;
    ids_.push_back(static_cast<TokenId>(i));
    if (bytes.size() == 1) single_bytes_.set(static_cast<std::uint8_t>(bytes[0]));
    longest_ = std::max(longest_, bytes.size());
  }
  std::ranges::sort(ids_, {}, [&](TokenId id) { return std::pair(bytes(id), id); });
  std::vector<std::size_t> open;  // the nodes from the root to the last one made
  std::string_view path;
  for (std::size_t at = 0; at < ids_.size(); ++at) {
    const std::string_view text = bytes(ids_[at]);
    const auto same = static_cast<std::size_t>(std::ranges::mismatch(path, text).in1 - path.begin());
    for (; open.size() > same; open.pop_back()) nodes_[open.back()].behind = static_cast<std::uint32_t>(nodes_.size());
    for (std::size_t i = same; i < text.size(); ++i) {
      open.push_back(nodes_.size());
      nodes_.push_back(
          {static_cast<std::uint8_t>(text[i]), static_cast<std::uint16_t>(i + 1), 0, static_cast<std::uint32_t>(at)});
    }
    path = text;
  }
  for (const std::size_t node : open) nodes_[node].behind = static_cast<std::uint32_t>(nodes_.size());
  nodes_.push_back({0, 0, static_cast<std::uint32_t>(nodes_.size() + 1), static_cast<std::uint32_t>(ids_.size())});
}

}  // namespace krait::runtime
