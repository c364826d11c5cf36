// Structured output: which tokens may come next, so that the whole text is one of a grammar's
// (docs/structured_output.md).
//
//   auto vocabulary = ConstraintVocabulary::of(tokenizer);                       // once for a tokenizer
//   KRAIT_ASSIGN(auto grammar, formats::grammar_of_json_schema(schema, {}));
//   KRAIT_ASSIGN(auto constraint, Constraint::compile(grammar, vocabulary, {eos}));  // once for a schema
//   ConstraintMatcher matcher(constraint);                                       // for every sequence
//   while (!matcher.finished()) {
//     matcher.allowed(mask);
//     matcher.accept(sampler.sample(logits, mask));
//   }
//
// A token is allowed only if the text can still be finished after it, so masks never become empty.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/grammar.h"
#include "krait/runtime/constraint_program.h"
#include "krait/runtime/constraint_vocabulary.h"

namespace krait::runtime {

class ConstraintAutomaton;

// A grammar, compiled for a vocabulary. Shared by sequences and threads; what it learns about the grammar's states is
// kept for all of them, within a bound.
class Constraint {
 public:
  // `ends`: the tokens that end a text, at least one. Errors are those of ConstraintProgram::compile, and
  // kInvalidArgument for an end that is not in the vocabulary.
  static Result<std::shared_ptr<const Constraint>> compile(const formats::Grammar& grammar,
                                                           std::shared_ptr<const ConstraintVocabulary> vocabulary,
                                                           std::vector<TokenId> ends);
  ~Constraint();

  const ConstraintVocabulary& vocabulary() const { return *vocabulary_; }
  // Words of 64 bits that a mask takes: token i is bit i % 64 of word i / 64.
  std::size_t mask_words() const { return (static_cast<std::size_t>(vocabulary_->size()) + 63) / 64; }

  // What was done so far, for measurements.
  struct Work {
    std::int64_t masks = 0;           // asked for
    std::int64_t masks_made = 0;      // of them, not known yet
    std::int64_t nodes_visited = 0;   // of the vocabulary's trie, in making them
    std::int64_t configurations = 0;  // known now
    std::int64_t restarts = 0;        // how often everything learnt was dropped because it took too much memory
  };
  Work work() const;

  // Memory, in bytes, past which what was learnt is dropped and learnt anew.
  static constexpr std::size_t kMemory = std::size_t{32} << 20;

 private:
  friend class ConstraintMatcher;
  struct Learnt;

  Constraint(ConstraintProgram program, std::shared_ptr<const ConstraintVocabulary> vocabulary,
             std::vector<TokenId> ends);
  const std::vector<std::uint64_t>& mask_of(Learnt& learnt, std::int32_t configuration) const;

  ConstraintProgram program_;
  std::shared_ptr<const ConstraintVocabulary> vocabulary_;
  std::vector<TokenId> ends_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<Learnt> learnt_;  // guarded by mutex_, what it points to as well
  mutable Work work_;                       // guarded by mutex_
};

// Where one sequence stands. A copy goes its own way: forks of a sequence fork it.
class ConstraintMatcher {
 public:
  explicit ConstraintMatcher(std::shared_ptr<const Constraint> constraint);

  // Sets the bits of the tokens that may come next and clears all others. `mask` has mask_words() words. Nothing is
  // allowed once the text is finished.
  void allowed(std::span<std::uint64_t> mask);
  // Takes a token. False, and nothing changes, for one that is not allowed.
  bool accept(TokenId id);
  // Takes the bytes of a text, whatever its tokens. False, and nothing changes, where they do not fit.
  bool accept_bytes(std::string_view bytes);

  bool finished() const { return finished_; }  // an end token was taken
  // Whether the text is complete as it stands, and whether nothing but its end may follow.
  bool may_end();
  bool must_end();

 private:
  void catch_up();  // moves to what the constraint learns now; with the constraint's lock

  std::shared_ptr<const Constraint> constraint_;
  std::shared_ptr<Constraint::Learnt> learnt_;
  std::int32_t configuration_ = 0;
  bool finished_ = false;
};

}  // namespace krait::runtime
