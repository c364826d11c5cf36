// The deterministic automaton of a ConstraintProgram, built as it is used: each state is a configuration, which is the
// set of all places where the program may stand, each with the stack of rules it has to return to. For a grammar of one
// rule (a regular expression) this is the subset construction; with rules, stacks are a graph whose nodes are shared
// wherever the same rule was called at the same byte, so ambiguity does not multiply them.
//   Tomita, "Efficient Parsing for Natural Language", 1985 (graph-structured stacks).
// Equal stacks and equal configurations are one, so a number says all about the future of a text. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "krait/runtime/constraint_program.h"

namespace krait::runtime {

class ConstraintAutomaton {
 public:
  static constexpr std::int32_t kDead = 0;  // the configuration that nothing can follow

  // `program` must outlive the automaton.
  explicit ConstraintAutomaton(const ConstraintProgram& program);

  std::int32_t start() const { return start_; }
  std::int32_t step(std::int32_t configuration, std::uint8_t byte) {
    const std::int32_t next =
        transitions_[static_cast<std::size_t>(configuration) * classes_ + program_->byte_class[byte]];
    return next != kUnknown ? next : find_step(configuration, byte);
  }
  // Whether the text may end here; whether it must; whether the vocabulary's one-byte tokens alone lead to an end.
  bool accepts(std::int32_t configuration) const { return at(configuration).accepts; }
  bool must_end(std::int32_t configuration) const {
    return at(configuration).accepts && at(configuration).items.size() == 1;
  }
  bool can_finish(std::int32_t configuration) const { return at(configuration).can_finish; }

  std::size_t size() const { return configurations_.size(); }  // configurations met so far
  std::size_t bytes() const { return bytes_; }                 // of memory, about

  // The number here of what `other` (of the same program) calls `configuration`.
  std::int32_t adopt(const ConstraintAutomaton& other, std::int32_t configuration);

 private:
  static constexpr std::int32_t kUnknown = -1;
  static constexpr std::int32_t kBottom = 0;    // the stack of rule 0
  static constexpr std::int32_t kAccepts = -1;  // as an item's node: rule 0 is at its end

  // A place in the program and the stack under it; as a frame of a stack, where to go on and on which stack then.
  struct Item {
    std::int32_t node;
    std::int32_t stack;
    auto operator<=>(const Item&) const = default;
  };
  using Items = std::vector<Item>;  // sorted, each once
  struct Stack {
    Items frames;
    std::int32_t levels;  // of nesting below
    bool can_finish;
  };
  struct Configuration {
    Items items;
    bool accepts;
    bool can_finish;
  };
  struct ItemsHash {
    std::size_t operator()(const std::pair<std::int32_t, Items>& key) const;
  };
  using Numbers = std::unordered_map<std::pair<std::int32_t, Items>, std::int32_t, ItemsHash>;

  const Configuration& at(std::int32_t configuration) const {
    return configurations_[static_cast<std::size_t>(configuration)];
  }
  const ConstraintProgram::Node& node(std::int32_t number) const {
    return program_->nodes[static_cast<std::size_t>(number)];
  }
  std::int32_t find_step(std::int32_t configuration, std::uint8_t byte);
  std::int32_t close(Items seeds);  // the configuration of what can be reached without a byte
  std::int32_t intern_stack(Items frames, std::int32_t levels);
  std::int32_t intern_configuration(Items items);
  bool finishes(const Item& item) const;

  const ConstraintProgram* program_;
  std::size_t classes_;
  std::vector<Configuration> configurations_;
  std::vector<std::int32_t> transitions_;  // [configuration][byte class]
  std::vector<Stack> stacks_;
  Numbers stack_numbers_, configuration_numbers_;
  std::int32_t start_ = kDead;
  std::size_t bytes_ = 0;
};

}  // namespace krait::runtime
