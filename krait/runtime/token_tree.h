// A radix tree over token ids: values stand at exact positions on paths, and a query learns which values lie on its way
// and how far its tokens agree with anything stored. (Morrison, "PATRICIA", 1968, with tokens for bits.)
//
// An edge belongs to the node at its lower end and holds its tokens, so that a token that many paths share is stored
// once. A value in the middle of an edge splits it; removing one prunes what leads nowhere and merges a node that only
// continues. Nodes with a value keep their id through splits and merges. Knows neither states nor their use; not
// thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace krait::runtime {

class TokenTree {
 public:
  using NodeId = std::uint32_t;
  using Value = std::uint64_t;  // 0: none

  struct Place {
    std::int64_t position = 0;  // tokens from the root
    Value value = 0;
    NodeId node = 0;
  };
  struct Walk {
    std::int64_t agreed = 0;    // the longest common prefix with any path
    std::vector<Place> places;  // values on the way, by rising position
  };

  TokenTree() : nodes_(1) {}

  Walk walk(std::span<const std::int32_t> tokens) const;
  // The value exactly behind these tokens.
  std::optional<Place> find(std::span<const std::int32_t> tokens) const;
  // Puts a value behind these tokens (at least one), where there must be none.
  NodeId put(std::span<const std::int32_t> tokens, Value value);
  // Takes the value of a node away, and what only it needed.
  void remove(NodeId node);
  // The next value towards the root.
  std::optional<Place> above(NodeId node) const;

  std::int64_t position(NodeId node) const { return nodes_[node].position; }
  std::vector<std::int32_t> path(NodeId node) const;  // the tokens from the root
  std::size_t size() const { return values_; }
  std::int64_t tokens() const { return tokens_; }  // stored on edges
  std::size_t nodes() const { return nodes_.size() - free_.size(); }
  // Nodes visited since the beginning, which is what calls cost besides comparing tokens.
  std::uint64_t visits() const { return visits_; }

 private:
  static constexpr NodeId kRoot = 0;
  static constexpr NodeId kNone = 0;  // nobody's child or sibling is the root
  struct Node {
    std::vector<std::int32_t> edge;  // from the parent to here
    std::int64_t position = 0;
    Value value = 0;
    NodeId parent = kNone;
    NodeId first_child = kNone;
    NodeId next = kNone;  // sibling
    NodeId previous = kNone;
  };
  struct Descent {
    NodeId node = kRoot;      // the last node reached whole
    NodeId next = kNone;      // the child whose edge is entered and not finished
    std::int64_t within = 0;  // tokens agreed on that edge
  };

  static std::uint64_t key(NodeId parent, std::int32_t first) {
    return std::uint64_t{parent} << 32 | static_cast<std::uint32_t>(first);
  }
  Descent descend(std::span<const std::int32_t> tokens, std::vector<Place>* places) const;
  NodeId make_node();
  void attach(NodeId parent, NodeId child);
  void detach(NodeId child);
  NodeId split(NodeId lower, std::int64_t length);
  void merge_into_child(NodeId node);

  std::vector<Node> nodes_;
  std::vector<NodeId> free_;
  std::unordered_map<std::uint64_t, NodeId> children_;  // by parent and first token
  std::size_t values_ = 0;
  std::int64_t tokens_ = 0;
  mutable std::uint64_t visits_ = 0;
};

}  // namespace krait::runtime
