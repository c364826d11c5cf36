#include "krait/runtime/token_tree.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::runtime {

TokenTree::Descent TokenTree::descend(std::span<const std::int32_t> tokens, std::vector<Place>* places) const {
  Descent at;
  while (true) {
    ++visits_;
    const Node& node = nodes_[at.node];
    if (places != nullptr && node.value != 0) places->push_back({node.position, node.value, at.node});
    const auto rest = tokens.subspan(static_cast<std::size_t>(node.position));
    if (rest.empty()) return at;
    const auto found = children_.find(key(at.node, rest.front()));
    if (found == children_.end()) return at;
    const std::vector<std::int32_t>& edge = nodes_[found->second].edge;
    const auto apart = std::ranges::mismatch(edge, rest).in1;
    if (apart != edge.end()) {
      at.next = found->second;
      at.within = apart - edge.begin();
      return at;
    }
    at.node = found->second;
  }
}

TokenTree::Walk TokenTree::walk(std::span<const std::int32_t> tokens) const {
  Walk walk;
  const Descent at = descend(tokens, &walk.places);
  walk.agreed = nodes_[at.node].position + at.within;
  return walk;
}

std::optional<TokenTree::Place> TokenTree::find(std::span<const std::int32_t> tokens) const {
  const Descent at = descend(tokens, nullptr);
  const Node& node = nodes_[at.node];
  if (at.next != kNone || node.position != std::ssize(tokens) || node.value == 0) return std::nullopt;
  return Place{node.position, node.value, at.node};
}

TokenTree::NodeId TokenTree::put(std::span<const std::int32_t> tokens, Value value) {
  KRAIT_CHECK(!tokens.empty() && value != 0, "a value {} behind {} tokens", value, tokens.size());
  const Descent at = descend(tokens, nullptr);
  NodeId node = at.next == kNone ? at.node : split(at.next, at.within);
  const auto rest = tokens.subspan(static_cast<std::size_t>(nodes_[node].position));
  if (!rest.empty()) {
    const NodeId leaf = make_node();
    nodes_[leaf].edge.assign(rest.begin(), rest.end());
    nodes_[leaf].position = std::ssize(tokens);
    tokens_ += std::ssize(rest);
    attach(node, leaf);
    node = leaf;
  }
  KRAIT_CHECK(nodes_[node].value == 0, "there is a value behind these {} tokens", tokens.size());
  nodes_[node].value = value;
  ++values_;
  return node;
}

void TokenTree::remove(NodeId node) {
  KRAIT_CHECK(nodes_[node].value != 0, "node {} has no value", node);
  nodes_[node].value = 0;
  --values_;
  // At most two rounds: above a leaf without a value there was a branch or a value.
  while (node != kRoot && nodes_[node].value == 0) {
    ++visits_;
    const NodeId child = nodes_[node].first_child;
    if (child != kNone) {
      if (nodes_[child].next == kNone) merge_into_child(node);
      return;
    }
    const NodeId parent = nodes_[node].parent;
    detach(node);
    tokens_ -= std::ssize(nodes_[node].edge);
    nodes_[node] = {};
    free_.push_back(node);
    node = parent;
  }
}

std::optional<TokenTree::Place> TokenTree::above(NodeId node) const {
  while (node != kRoot) {
    ++visits_;
    node = nodes_[node].parent;
    if (nodes_[node].value != 0) return Place{nodes_[node].position, nodes_[node].value, node};
  }
  return std::nullopt;
}

std::vector<std::int32_t> TokenTree::path(NodeId node) const {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(nodes_[node].position));
  for (auto end = tokens.end(); node != kRoot; node = nodes_[node].parent)
    end = std::ranges::copy_backward(nodes_[node].edge, end).out;
  return tokens;
}

TokenTree::NodeId TokenTree::make_node() {
  if (free_.empty()) {
    nodes_.emplace_back();
    return static_cast<NodeId>(nodes_.size() - 1);
  }
  const NodeId node = free_.back();
  free_.pop_back();
  return node;
}

void TokenTree::attach(NodeId parent, NodeId child) {
  Node& node = nodes_[child];
  node.parent = parent;
  node.previous = kNone;
  node.next = nodes_[parent].first_child;
  if (node.next != kNone) nodes_[node.next].previous = child;
  nodes_[parent].first_child = child;
  children_[key(parent, node.edge.front())] = child;
}

void TokenTree::detach(NodeId child) {
  const Node& node = nodes_[child];
  if (node.previous != kNone) {
    nodes_[node.previous].next = node.next;
  } else {
    nodes_[node.parent].first_child = node.next;
  }
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  children_.erase(key(node.parent, node.edge.front()));
}

// A new node `length` tokens down the edge of `lower`, which stays below it.
TokenTree::NodeId TokenTree::split(NodeId lower, std::int64_t length) {
  const NodeId upper = make_node();
  const NodeId parent = nodes_[lower].parent;
  detach(lower);
  std::vector<std::int32_t>& edge = nodes_[lower].edge;
  nodes_[upper].edge.assign(edge.begin(), edge.begin() + length);
  nodes_[upper].position = nodes_[parent].position + length;
  edge = std::vector<std::int32_t>(edge.begin() + length, edge.end());
  attach(parent, upper);
  attach(upper, lower);
  return upper;
}

// The only child takes over the edge of a node, which goes.
void TokenTree::merge_into_child(NodeId node) {
  const NodeId child = nodes_[node].first_child;
  const NodeId parent = nodes_[node].parent;
  detach(child);
  detach(node);
  std::vector<std::int32_t>& edge = nodes_[child].edge;
  edge.insert(edge.begin(), nodes_[node].edge.begin(), nodes_[node].edge.end());
  attach(parent, child);
  nodes_[node] = {};
  free_.push_back(node);
}

}  // namespace krait::runtime
