#include "krait/runtime/constraint.h"

#include <algorithm>
#include <unordered_map>

#include "krait/core/check.h"
#include "krait/runtime/constraint_automaton.h"

namespace krait::runtime {

// The automaton as far as it was needed, and the masks of its configurations.
struct Constraint::Learnt {
  explicit Learnt(const ConstraintProgram& program) : automaton(program) {}

  ConstraintAutomaton automaton;
  std::unordered_map<std::int32_t, std::vector<std::uint64_t>> masks;
  std::size_t mask_bytes = 0;
};

Constraint::Constraint(ConstraintProgram program, std::shared_ptr<const ConstraintVocabulary> vocabulary,
                       std::vector<TokenId> ends)
    : program_(std::move(program)),
      vocabulary_(std::move(vocabulary)),
      ends_(std::move(ends)),
      learnt_(std::make_shared<Learnt>(program_)) {}

Constraint::~Constraint() = default;

Result<std::shared_ptr<const Constraint>> Constraint::compile(const formats::Grammar& grammar,
                                                              std::shared_ptr<const ConstraintVocabulary> vocabulary,
                                                              std::vector<TokenId> ends) {
  if (ends.empty()) return fail(ErrorCode::kInvalidArgument, "[constraint] no token ends the text");
  for (const TokenId id : ends) {
    if (id < 0 || id >= vocabulary->size()) {
      return fail(ErrorCode::kInvalidArgument, "[constraint] the end token {} is not in the vocabulary of {} tokens",
                  id, vocabulary->size());
    }
  }
  KRAIT_ASSIGN(ConstraintProgram program, ConstraintProgram::compile(grammar, vocabulary->single_bytes()));
  return std::shared_ptr<const Constraint>(new Constraint(std::move(program), std::move(vocabulary), std::move(ends)));
}

Constraint::Work Constraint::work() const {
  const std::lock_guard lock(mutex_);
  Work work = work_;
  work.configurations = static_cast<std::int64_t>(learnt_->automaton.size());
  return work;
}

const std::vector<std::uint64_t>& Constraint::mask_of(Learnt& learnt, std::int32_t configuration) const {
  ++work_.masks;
  const auto [found, is_new] = learnt.masks.try_emplace(configuration);
  std::vector<std::uint64_t>& mask = found->second;
  if (!is_new) return mask;
  ++work_.masks_made;
  mask.assign(mask_words(), 0);
  learnt.mask_bytes += mask.size() * sizeof(std::uint64_t) + 64;
  const auto set = [&](TokenId id) { mask[static_cast<std::size_t>(id) / 64] |= std::uint64_t{1} << (id % 64); };
  const auto clear = [&](TokenId id) { mask[static_cast<std::size_t>(id) / 64] &= ~(std::uint64_t{1} << (id % 64)); };

  // The trie and the automaton together: path[d] is where the automaton stands d bytes into the tokens at hand, and a
  // byte that it does not take skips all tokens that begin so.
  ConstraintAutomaton& automaton = learnt.automaton;
  const auto nodes = vocabulary_->nodes();
  std::vector<std::int32_t> path(vocabulary_->longest() + 1, configuration);
  for (std::size_t i = 0; i < nodes.size();) {
    ++work_.nodes_visited;
    const std::int32_t next = automaton.step(path[nodes[i].depth - 1U], nodes[i].byte);
    if (next == ConstraintAutomaton::kDead) {
      i = nodes[i].behind;
      continue;
    }
    path[nodes[i].depth] = next;
    const auto tokens = vocabulary_->tokens_at(i);
    if (!tokens.empty() && automaton.can_finish(next)) {
      for (const TokenId id : tokens) set(id);
    }
    ++i;
  }
  const bool may_end = automaton.accepts(configuration);
  for (const TokenId id : ends_) may_end ? set(id) : clear(id);
  return mask;
}

ConstraintMatcher::ConstraintMatcher(std::shared_ptr<const Constraint> constraint)
    : constraint_(std::move(constraint)) {
  const std::lock_guard lock(constraint_->mutex_);
  learnt_ = constraint_->learnt_;
  configuration_ = learnt_->automaton.start();
}

void ConstraintMatcher::catch_up() {
  std::shared_ptr<Constraint::Learnt>& current = constraint_->learnt_;
  if (current->automaton.bytes() + current->mask_bytes > Constraint::kMemory) {
    current = std::make_shared<Constraint::Learnt>(constraint_->program_);
    ++constraint_->work_.restarts;
  }
  if (learnt_ == current) return;
  configuration_ = current->automaton.adopt(learnt_->automaton, configuration_);
  learnt_ = current;
}

void ConstraintMatcher::allowed(std::span<std::uint64_t> mask) {
  KRAIT_CHECK_EQ(mask.size(), constraint_->mask_words());
  if (finished_) {
    std::ranges::fill(mask, 0);
    return;
  }
  const std::lock_guard lock(constraint_->mutex_);
  catch_up();
  std::ranges::copy(constraint_->mask_of(*learnt_, configuration_), mask.begin());
}

bool ConstraintMatcher::accept(TokenId id) {
  if (finished_ || id < 0 || id >= constraint_->vocabulary().size()) return false;
  if (std::ranges::find(constraint_->ends_, id) != constraint_->ends_.end()) {
    finished_ = may_end();
    return finished_;
  }
  const std::string_view bytes = constraint_->vocabulary().bytes(id);
  return !bytes.empty() && accept_bytes(bytes);
}

bool ConstraintMatcher::accept_bytes(std::string_view bytes) {
  if (finished_) return false;
  const std::lock_guard lock(constraint_->mutex_);
  catch_up();
  std::int32_t next = configuration_;
  for (const char byte : bytes) next = learnt_->automaton.step(next, static_cast<std::uint8_t>(byte));
  if (!learnt_->automaton.can_finish(next)) return false;
  configuration_ = next;
  return true;
}

bool ConstraintMatcher::may_end() {
  const std::lock_guard lock(constraint_->mutex_);
  return learnt_->automaton.accepts(configuration_);
}

bool ConstraintMatcher::must_end() {
  const std::lock_guard lock(constraint_->mutex_);
  return learnt_->automaton.must_end(configuration_);
}

}  // namespace krait::runtime
