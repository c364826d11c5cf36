#include "krait/runtime/constraint_program.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <unordered_map>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

using formats::Grammar;
using Node = ConstraintProgram::Node;
using Edge = ConstraintProgram::Edge;

// Builds the graph from its end: an expression is compiled towards the node that follows it. Equal expressions before
// the same node are one piece of graph, so what many branches share is there once.
class GraphBuilder {
 public:
  GraphBuilder(const Grammar& grammar, ConstraintProgram& program) : grammar_(grammar), program_(program) {}

  Result<void> build() {
    for (const Grammar::Rule& rule : grammar_.rules()) {
      KRAIT_CHECK(rule.body >= 0, "rule {} has no body", rule.name);
      const std::int32_t end = add({.kind = Node::kEnd});
      program_.rules.push_back({.start = compile(rule.body, end), .levels = rule.is_level ? 1 : 0});
      if (too_large_) {
        return fail(ErrorCode::kResourceExhausted,
                    "[constraint] '{:.100}' takes more than {} nodes or {} edges: repeat or nest less", rule.name,
                    ConstraintProgram::kMaximumNodes, ConstraintProgram::kMaximumEdges);
      }
    }
    return {};
  }

 private:
  std::int32_t add(Node node) {
    edges_ += node.edges.size() + node.epsilons.size();
    if (program_.nodes.size() >= ConstraintProgram::kMaximumNodes || edges_ > ConstraintProgram::kMaximumEdges) {
      too_large_ = true;
      return 0;
    }
    program_.nodes.push_back(std::move(node));
    return static_cast<std::int32_t>(program_.nodes.size() - 1);
  }

  std::int32_t add_bytes(std::uint8_t low, std::uint8_t high, std::int32_t next) {
    return add({.kind = Node::kBytes, .edges = {{low, high, next}}});
  }

  std::int32_t compile(Grammar::Expression expression, std::int32_t next) {
    if (too_large_) return 0;
    const std::uint64_t key = (static_cast<std::uint64_t>(expression) << 32) | static_cast<std::uint32_t>(next);
    if (const auto found = memo_.find(key); found != memo_.end()) return found->second;
    const std::int32_t made = compile_new(grammar_.node(expression), next);
    memo_[key] = made;
    return made;
  }

  std::int32_t compile_new(const Grammar::Node& node, std::int32_t next) {
    switch (node.kind) {
      case Grammar::Node::kLiteral:
        for (std::size_t i = node.text.size(); i-- > 0;) {
          const auto byte = static_cast<std::uint8_t>(node.text[i]);
          next = add_bytes(byte, byte, next);
        }
        return next;
      case Grammar::Node::kBytes: return add_bytes(node.low, node.high, next);
      case Grammar::Node::kSequence:
        for (std::size_t i = node.parts.size(); i-- > 0;) next = compile(node.parts[i], next);
        return next;
      case Grammar::Node::kChoice: {
        std::vector<std::int32_t> heads;
        for (const Grammar::Expression part : node.parts) heads.push_back(compile(part, next));
        return join(std::move(heads));
      }
      case Grammar::Node::kRepeat: return repeat(node, next);
      case Grammar::Node::kCall: return add({.kind = Node::kCall, .rule = node.rule, .next = next});
    }
    return next;
  }

  // A node that stands for all of these. Those that wait for a byte become one node, so that a set of characters or of
  // strings costs a matcher one place and not many.
  std::int32_t join(std::vector<std::int32_t> heads) {
    std::ranges::sort(heads);
    heads.erase(std::ranges::unique(heads).begin(), heads.end());
    if (heads.size() == 1) return heads.front();
    std::vector<std::int32_t> others;
    std::vector<Edge> edges;
    for (const std::int32_t head : heads) {
      const Node& node = program_.nodes[static_cast<std::size_t>(head)];
      if (node.kind == Node::kBytes) {
        edges.insert(edges.end(), node.edges.begin(), node.edges.end());
        if (edges.size() > ConstraintProgram::kMaximumEdges) too_large_ = true;
      } else {
        others.push_back(head);
      }
    }
    if (edges.empty() || too_large_) return add({.kind = Node::kSplit, .epsilons = std::move(others)});
    const std::int32_t bytes = add({.kind = Node::kBytes, .edges = std::move(edges)});
    if (others.empty()) return bytes;
    others.push_back(bytes);
    return add({.kind = Node::kSplit, .epsilons = std::move(others)});
  }

  std::int32_t repeat(const Grammar::Node& node, std::int32_t next) {
    const Grammar::Expression part = node.parts[0];
    if (node.most == Grammar::kUnlimited) {
      const std::int32_t loop = add({.kind = Node::kSplit});
      const std::int32_t body = compile(part, loop);
      if (too_large_) return 0;
      program_.nodes[static_cast<std::size_t>(loop)].epsilons = {body, next};
      next = loop;
    } else {
      // x{0,3} is (x(x(x)?)?)?: whoever leaves the loop goes straight to its end.
      std::int32_t rest = next;
      for (std::int32_t i = node.least; i < node.most && !too_large_; ++i) {
        const std::int32_t body = compile(part, rest);
        if (body == rest) break;  // an expression of no bytes, however often
        rest = join({body, next});
      }
      next = rest;
    }
    for (std::int32_t i = 0; i < node.least && !too_large_; ++i) {
      const std::int32_t body = compile(part, next);
      if (body == next) break;
      next = body;
    }
    return next;
  }

  const Grammar& grammar_;
  ConstraintProgram& program_;
  std::unordered_map<std::uint64_t, std::int32_t> memo_;
  std::size_t edges_ = 0;
  bool too_large_ = false;
};

// The least solution of need = what the best way to the rule's end needs, from above. `usable` says which edges count.
// Nodes stand behind those they lead to except in loops, so a few passes in their order are enough.
void find_needs(ConstraintProgram& program, std::int32_t Node::* need, const std::function<bool(const Edge&)>& usable) {
  const auto of = [&](std::int32_t node) { return program.nodes[static_cast<std::size_t>(node)].*need; };
  for (bool changed = true; changed;) {
    changed = false;
    for (Node& node : program.nodes) {
      std::int32_t best = node.*need;
      switch (node.kind) {
        case Node::kEnd: best = 0; break;
        case Node::kBytes:
          for (const Edge& edge : node.edges) {
            if (usable(edge)) best = std::min(best, of(edge.target));
          }
          break;
        case Node::kSplit:
          for (const std::int32_t target : node.epsilons) best = std::min(best, of(target));
          break;
        case Node::kCall: {
          const ConstraintProgram::Rule& rule = program.rules[static_cast<std::size_t>(node.rule)];
          best = std::min(best, std::max(rule.levels + of(rule.start), of(node.next)));
          break;
        }
      }
      if (best < node.*need) {
        node.*need = best;
        changed = true;
      }
    }
  }
}

// What can be reached from a rule's start before any byte: the rules it calls there, and whether its end.
struct RuleStart {
  std::vector<std::int32_t> calls;
  bool is_nullable = false;
};

RuleStart look_at_start(const ConstraintProgram& program, const ConstraintProgram::Rule& rule) {
  RuleStart found;
  std::vector<std::int32_t> waiting = {rule.start};
  std::vector<bool> seen(program.nodes.size());
  while (!waiting.empty()) {
    const std::int32_t at = waiting.back();
    waiting.pop_back();
    if (seen[static_cast<std::size_t>(at)]) continue;
    seen[static_cast<std::size_t>(at)] = true;
    const Node& node = program.nodes[static_cast<std::size_t>(at)];
    if (node.kind == Node::kCall) found.calls.push_back(node.rule);
    if (node.kind == Node::kEnd) found.is_nullable = true;
    waiting.insert(waiting.end(), node.epsilons.begin(), node.epsilons.end());
  }
  return found;
}

// Numbers the rules so that a rule comes before those it may call before any byte.
Result<void> order_rules(ConstraintProgram& program, const Grammar& grammar) {
  std::vector<RuleStart> starts;
  std::vector<bool> is_called(program.rules.size());
  for (const auto& rule : program.rules) starts.push_back(look_at_start(program, rule));
  for (const Node& node : program.nodes) {
    if (node.kind == Node::kCall) is_called[static_cast<std::size_t>(node.rule)] = true;
  }
  std::vector<std::int32_t> callers(program.rules.size());
  for (std::size_t i = 0; i < starts.size(); ++i) {
    KRAIT_CHECK(!(is_called[i] && starts[i].is_nullable), "rule {} may be empty", grammar.rules()[i].name);
    for (const std::int32_t called : starts[i].calls) ++callers[static_cast<std::size_t>(called)];
  }
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < callers.size(); ++i) {
    if (callers[i] == 0) ready.push_back(i);
  }
  std::int32_t number = 0;
  while (!ready.empty()) {
    const std::size_t at = ready.back();
    ready.pop_back();
    program.rules[at].order = number++;
    for (const std::int32_t called : starts[at].calls) {
      if (--callers[static_cast<std::size_t>(called)] == 0) ready.push_back(static_cast<std::size_t>(called));
    }
  }
  for (std::size_t i = 0; i < callers.size(); ++i) {
    if (callers[i] > 0) {
      return fail(ErrorCode::kInvalidArgument, "[constraint] '{:.100}' refers to itself with nothing before it",
                  grammar.rules()[i].name);
    }
  }
  return {};
}

void find_byte_classes(ConstraintProgram& program) {
  std::bitset<257> begins;
  for (const Node& node : program.nodes) {
    for (const Edge& edge : node.edges) {
      begins.set(edge.low);
      begins.set(edge.high + std::size_t{1});
    }
  }
  std::int32_t current = 0;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (byte > 0 && begins[byte]) ++current;
    program.byte_class[byte] = static_cast<std::uint8_t>(current);
  }
  program.byte_classes = current + 1;
}

}  // namespace

Result<ConstraintProgram> ConstraintProgram::compile(const Grammar& grammar, const std::bitset<256>& single_bytes) {
  KRAIT_CHECK(!grammar.rules().empty(), "a grammar without rules");
  if (grammar.too_large()) {
    return fail(ErrorCode::kResourceExhausted, "[constraint] the grammar has more than {} expressions",
                Grammar::kMaximumExpressions);
  }
  ConstraintProgram program;
  KRAIT_TRY(GraphBuilder(grammar, program).build());
  KRAIT_TRY(order_rules(program, grammar));
  find_needs(program, &Node::need, [](const Edge&) { return true; });
  const Node& start = program.nodes[static_cast<std::size_t>(program.rules[0].start)];
  if (start.need >= kNever) {
    return fail(ErrorCode::kInvalidArgument, "[constraint] no text can match '{:.100}'", grammar.rules()[0].name);
  }
  if (start.need > kMaximumLevels) {
    return fail(ErrorCode::kInvalidArgument, "[constraint] '{:.100}' nests {} levels at least; the limit is {}",
                grammar.rules()[0].name, start.need, kMaximumLevels);
  }
  find_needs(program, &Node::need_of_single_bytes, [&](const Edge& edge) {
    for (unsigned byte = edge.low; byte <= edge.high; ++byte) {
      if (single_bytes[byte]) return true;
    }
    return false;
  });
  if (start.need_of_single_bytes > kMaximumLevels) {
    return fail(ErrorCode::kInvalidArgument,
                "[constraint] no text of '{:.100}' can be written with the vocabulary's tokens of one byte",
                grammar.rules()[0].name);
  }
  find_byte_classes(program);
  return program;
}

}  // namespace krait::runtime
