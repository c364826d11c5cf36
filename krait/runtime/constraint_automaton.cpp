#include "krait/runtime/constraint_automaton.h"

#include <algorithm>
#include <unordered_set>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

using Node = ConstraintProgram::Node;

template <class Items>
void sort_once(Items& items) {
  std::ranges::sort(items);
  items.erase(std::ranges::unique(items).begin(), items.end());
}

}  // namespace

std::size_t ConstraintAutomaton::ItemsHash::operator()(const std::pair<std::int32_t, Items>& key) const {
  std::uint64_t hash = static_cast<std::uint64_t>(key.first) + 1;
  for (const Item& item : key.second) {
    const std::uint64_t both = (static_cast<std::uint64_t>(item.node) << 32) | static_cast<std::uint32_t>(item.stack);
    hash = (hash ^ both) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
  }
  return static_cast<std::size_t>(hash);
}

ConstraintAutomaton::ConstraintAutomaton(const ConstraintProgram& program)
    : program_(&program), classes_(static_cast<std::size_t>(program.byte_classes)) {
  KRAIT_CHECK_EQ(intern_configuration({}), kDead);
  stacks_.push_back({{}, 0, true});
  start_ = close({{program.rules[0].start, kBottom}});
}

std::int32_t ConstraintAutomaton::find_step(std::int32_t configuration, std::uint8_t byte) {
  Items seeds;
  for (const Item& item : at(configuration).items) {
    if (item.node == kAccepts) continue;
    for (const auto& edge : node(item.node).edges) {
      if (edge.low <= byte && byte <= edge.high) seeds.push_back({edge.target, item.stack});
    }
  }
  const std::int32_t next = seeds.empty() ? kDead : close(std::move(seeds));
  transitions_[static_cast<std::size_t>(configuration) * classes_ + program_->byte_class[byte]] = next;
  return next;
}

std::int32_t ConstraintAutomaton::close(Items seeds) {
  Items found;
  std::unordered_set<std::uint64_t> seen;
  // Who calls a rule here, by the rule's order and by depth: callers of one depth share the stack node that the rule
  // returns to. A rule's callers are complete when its turn comes, since none of higher order calls it before a byte.
  std::map<std::pair<std::int32_t, std::int32_t>, std::pair<std::int32_t, Items>> calls;
  for (;;) {
    while (!seeds.empty()) {
      const Item item = seeds.back();
      seeds.pop_back();
      const auto key = (static_cast<std::uint64_t>(item.node) << 32) | static_cast<std::uint32_t>(item.stack);
      if (!seen.insert(key).second) continue;
      const Node& place = node(item.node);
      const std::int32_t levels = stacks_[static_cast<std::size_t>(item.stack)].levels;
      if (levels + place.need > ConstraintProgram::kMaximumLevels) continue;  // it could not end any more
      switch (place.kind) {
        case Node::kBytes: found.push_back(item); break;
        case Node::kSplit:
          for (const std::int32_t target : place.epsilons) seeds.push_back({target, item.stack});
          break;
        case Node::kEnd:
          if (item.stack == kBottom) {
            found.push_back({kAccepts, kBottom});
          } else {
            const Items& frames = stacks_[static_cast<std::size_t>(item.stack)].frames;
            seeds.insert(seeds.end(), frames.begin(), frames.end());
          }
          break;
        case Node::kCall: {
          auto& [rule, callers] = calls[{program_->rules[static_cast<std::size_t>(place.rule)].order, levels}];
          rule = place.rule;
          callers.push_back({place.next, item.stack});
          break;
        }
      }
    }
    if (calls.empty()) break;
    const auto first = calls.begin();
    auto [rule_number, callers] = std::move(first->second);
    const auto& rule = program_->rules[static_cast<std::size_t>(rule_number)];
    const std::int32_t levels = first->first.second + rule.levels;
    calls.erase(first);
    seeds.push_back({rule.start, intern_stack(std::move(callers), levels)});
  }
  return intern_configuration(std::move(found));
}

bool ConstraintAutomaton::finishes(const Item& item) const {
  if (item.node == kAccepts) return true;
  const Stack& stack = stacks_[static_cast<std::size_t>(item.stack)];
  return stack.can_finish && stack.levels + node(item.node).need_of_single_bytes <= ConstraintProgram::kMaximumLevels;
}

std::int32_t ConstraintAutomaton::intern_stack(Items frames, std::int32_t levels) {
  sort_once(frames);
  const auto [found, is_new] =
      stack_numbers_.try_emplace({levels, std::move(frames)}, static_cast<std::int32_t>(stacks_.size()));
  if (is_new) {
    const Items& kept = found->first.second;
    bytes_ += 2 * kept.size() * sizeof(Item) + sizeof(Stack) + 64;
    stacks_.push_back({kept, levels, std::ranges::any_of(kept, [&](const Item& frame) { return finishes(frame); })});
  }
  return found->second;
}

std::int32_t ConstraintAutomaton::intern_configuration(Items items) {
  sort_once(items);
  const auto [found, is_new] =
      configuration_numbers_.try_emplace({0, std::move(items)}, static_cast<std::int32_t>(configurations_.size()));
  if (is_new) {
    const Items& kept = found->first.second;
    bytes_ += 2 * kept.size() * sizeof(Item) + sizeof(Configuration) + 64 + classes_ * sizeof(std::int32_t);
    configurations_.push_back({kept, !kept.empty() && kept.front().node == kAccepts,
                               std::ranges::any_of(kept, [&](const Item& item) { return finishes(item); })});
    transitions_.resize(configurations_.size() * classes_, kUnknown);
  }
  return found->second;
}

std::int32_t ConstraintAutomaton::adopt(const ConstraintAutomaton& other, std::int32_t configuration) {
  KRAIT_CHECK(program_ == other.program_, "configurations of another program");
  std::unordered_map<std::int32_t, std::int32_t> stacks = {{kBottom, kBottom}};
  const auto translated = [&](const Items& items) {
    Items mine;
    for (const Item& item : items) mine.push_back({item.node, stacks.at(item.stack)});
    return mine;
  };
  // Frames stand on stacks of lower numbers: those in use are found from above, and made from below.
  std::map<std::int32_t, bool> in_use;
  for (const Item& item : other.at(configuration).items) in_use[item.stack] = true;
  for (auto at = in_use.rbegin(); at != in_use.rend(); ++at) {
    for (const Item& frame : other.stacks_[static_cast<std::size_t>(at->first)].frames) in_use[frame.stack] = true;
  }
  for (const auto& [number, used] : in_use) {
    if (number == kBottom) continue;
    const Stack& stack = other.stacks_[static_cast<std::size_t>(number)];
    stacks[number] = intern_stack(translated(stack.frames), stack.levels);
  }
  return intern_configuration(translated(other.at(configuration).items));
}

}  // namespace krait::runtime
