// A grammar as a pushdown machine over bytes: for every rule a graph of nodes (Thompson's construction), whose edges
// are byte ranges, empty steps and calls of rules. Immutable. Not the matching, which is in constraint_automaton.h.
//   Thompson, "Regular Expression Search Algorithm", CACM 1968; Woods, "Transition Network Grammars", CACM 1970.
//
// Every node knows how deep the calls must nest at least before its rule can end: its *need*. A matcher that never
// enters a node whose need does not fit under the limit can always finish, so it never runs into a dead end.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/grammar.h"

namespace krait::runtime {

struct ConstraintProgram {
  static constexpr std::size_t kMaximumNodes = std::size_t{1} << 17;
  static constexpr std::size_t kMaximumEdges = std::size_t{1} << 20;
  static constexpr std::int32_t kMaximumLevels = 64;             // of rules that are levels, in one another
  static constexpr std::int32_t kNever = std::int32_t{1} << 20;  // the need of a node that leads nowhere

  struct Edge {
    std::uint8_t low, high;
    std::int32_t target;
  };
  struct Node {
    enum Kind : std::uint8_t { kBytes, kSplit, kCall, kEnd } kind = kSplit;
    std::int32_t rule = -1, next = -1;        // kCall: the rule, and where to go on behind it
    std::vector<Edge> edges = {};             // kBytes
    std::vector<std::int32_t> epsilons = {};  // kSplit
    std::int32_t need = kNever;
    std::int32_t need_of_single_bytes = kNever;  // the same where only the vocabulary's one-byte tokens are used
  };
  struct Rule {
    std::int32_t start = -1;
    std::int32_t levels = 0;  // 1 where a call of it is a level of nesting
    std::int32_t order = 0;   // rules that may be called at the start of this one have higher numbers
  };

  std::vector<Node> nodes;
  std::vector<Rule> rules;
  // Bytes that no edge tells apart are one class.
  std::array<std::uint8_t, 256> byte_class = {};
  std::int32_t byte_classes = 0;

  // `single_bytes`: the bytes that are tokens by themselves. kInvalidArgument for a grammar that matches no text, that
  // these tokens cannot write, or in which a rule calls itself before any byte; kResourceExhausted for one too large.
  static Result<ConstraintProgram> compile(const formats::Grammar& grammar, const std::bitset<256>& single_bytes);
};

}  // namespace krait::runtime
