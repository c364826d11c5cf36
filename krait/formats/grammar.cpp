#include "krait/formats/grammar.h"

namespace krait::formats {

Grammar::Expression Grammar::add(Node node) {
  if (nodes_.size() >= kMaximumExpressions) {
    too_large_ = true;
    return 0;
  }
  nodes_.push_back(std::move(node));
  return static_cast<Expression>(nodes_.size() - 1);
}

Grammar::Expression Grammar::literal(std::string_view bytes) {
  Node node;
  node.kind = Node::kLiteral;
  node.text = bytes;
  return add(std::move(node));
}

Grammar::Expression Grammar::bytes(std::uint8_t low, std::uint8_t high) {
  const auto [found, is_new] = byte_ranges_.try_emplace({low, high}, 0);
  if (is_new) {
    Node node;
    node.kind = Node::kBytes;
    node.low = low;
    node.high = high;
    found->second = add(std::move(node));
  }
  return found->second;
}

Grammar::Expression Grammar::sequence(std::vector<Expression> parts) {
  if (parts.size() == 1) return parts.front();
  Node node;
  node.kind = Node::kSequence;
  node.parts = std::move(parts);
  return add(std::move(node));
}

Grammar::Expression Grammar::choice(std::vector<Expression> parts) {
  if (parts.size() == 1) return parts.front();
  Node node;
  node.kind = Node::kChoice;
  node.parts = std::move(parts);
  return add(std::move(node));
}

Grammar::Expression Grammar::repeat(Expression part, std::int32_t least, std::int32_t most) {
  if (least == 1 && most == 1) return part;
  Node node;
  node.kind = Node::kRepeat;
  node.least = least;
  node.most = most;
  node.parts = {part};
  return add(std::move(node));
}

Grammar::Expression Grammar::embed(const Grammar& other) {
  const auto first = static_cast<Expression>(nodes_.size());
  const auto first_rule = static_cast<std::int32_t>(rules_.size());
  too_large_ = too_large_ || other.too_large_;
  for (Node node : other.nodes_) {
    for (Expression& part : node.parts) part += first;
    if (node.kind == Node::kCall) node.rule += first_rule;
    add(std::move(node));
  }
  for (Rule rule : other.rules_) {
    if (rule.body >= 0) rule.body += first;
    rules_.push_back(std::move(rule));
  }
  return call(first_rule);
}

Grammar::Expression Grammar::call(std::int32_t rule) {
  Node node;
  node.kind = Node::kCall;
  node.rule = rule;
  return add(std::move(node));
}

std::int32_t Grammar::add_rule(std::string name, bool is_level) {
  rules_.push_back({std::move(name), -1, is_level});
  return static_cast<std::int32_t>(rules_.size() - 1);
}

Grammar grammar_of_choices(std::span<const std::string> texts) {
  Grammar grammar;
  const std::int32_t root = grammar.add_rule("choice", false);
  std::vector<Grammar::Expression> parts;
  for (const std::string& text : texts) parts.push_back(grammar.literal(text));
  grammar.set_body(root, grammar.choice(std::move(parts)));
  return grammar;
}

}  // namespace krait::formats
