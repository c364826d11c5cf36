// The tokens of a tokenizer as one trie of their bytes, laid out for a single walk over all of them: made once for a
// tokenizer and shared by all its constraints. Immutable.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer.h"

namespace krait::runtime {

using formats::TokenId;

class ConstraintVocabulary {
 public:
  // Special tokens and those without bytes never stand in a constrained text, nor do those from `drawable` on, where
  // it is given: a model may have fewer than its tokenizer.
  static std::shared_ptr<const ConstraintVocabulary> of(const formats::Tokenizer& tokenizer,
                                                        std::optional<std::int64_t> drawable = std::nullopt);
  // The bytes of token 0, 1, …; empty where a token never stands in a text.
  explicit ConstraintVocabulary(std::vector<std::string> tokens);

  // A node of the trie, in the order of a walk that goes down first.
  struct Node {
    std::uint8_t byte;          // that leads here
    std::uint16_t depth;        // bytes from the root: 1 for the first
    std::uint32_t behind;       // the first node outside this one's subtree
    std::uint32_t first_token;  // in ids(), up to the next node's
  };

  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }
  std::string_view bytes(TokenId id) const { return tokens_[static_cast<std::size_t>(id)]; }
  const std::bitset<256>& single_bytes() const { return single_bytes_; }  // that are tokens by themselves
  std::span<const Node> nodes() const { return std::span(nodes_).first(nodes_.size() - 1); }
  // The tokens that end in a node.
  std::span<const TokenId> tokens_at(std::size_t node) const {
    return std::span(ids_).subspan(nodes_[node].first_token, nodes_[node + 1].first_token - nodes_[node].first_token);
  }
  std::size_t longest() const { return longest_; }  // token, in bytes

 private:
  std::vector<std::string> tokens_;
  std::vector<TokenId> ids_;  // sorted by bytes
  std::vector<Node> nodes_;   // and one behind the last
  std::bitset<256> single_bytes_;
  std::size_t longest_ = 0;
};

}  // namespace krait::runtime
