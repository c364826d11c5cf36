// A group of cores that steps: its threads, and the memory that its steps work in. The lanes of an engine share its
// weights, which nobody changes, and its states, of which each belongs to one sequence; so two lanes may step at the
// same time, each from a thread of its own, as long as no sequence is in both. No result depends on the lane
// (docs/architecture.md, the law), since none depends on the number of threads.
//
// What lanes share, and why that is safe: the model is const in a step; blocks of states are taken and given back under
// a mutex, and one that two sequences share is written to by neither (slab.h); scratch of kernels is the calling
// thread's or a worker's own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "krait/core/thread_pool.h"
#include "krait/formats/tokenizer.h"
#include "krait/models/likeliest.h"
#include "krait/models/model.h"

namespace krait::runtime {

using formats::TokenId;
using models::LikelyToken;

class Engine;
class Session;

// What a model says after a token: its logits, or the hidden state that the head would make them of.
enum class StepOutput : std::uint8_t { kLogits, kHidden };

// One sequence's part of a step.
struct StepRequest {
  Session* session = nullptr;
  std::span<const TokenId> tokens;  // at least one
  std::int64_t wanted_from = 0;     // an output is wanted after tokens[wanted_from] and all later ones
  StepOutput output = StepOutput::kLogits;
};

// Rows of a step's output in the order of the requests that asked for it and of their tokens. Valid until the lane's
// next step.
struct OutputRows {
  const float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // V of logits, D of hidden states
  std::span<const float> row(std::int64_t index) const {
    return {data + index * columns, static_cast<std::size_t>(columns)};
  }
  OutputRows slice(std::int64_t first, std::int64_t count) const { return {data + first * columns, count, columns}; }
};

struct StepRows {
  OutputRows logits;  // of the requests for these
  OutputRows hidden;  // of the others
};

class Lane {
 public:
  // `cores` are the numbers of the cores that its threads keep to; none: they run where they may.
  Lane(Engine& engine, int threads, std::vector<int> cores = {});
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // For the thread that is to step in it from now on: it keeps to the lane's cores as well.
  void enter() const;

  // Advances the sessions by their tokens. No session may stand twice in a step, nor in another lane's meanwhile.
  // Throws UserError for a token outside the vocabulary, before anything has changed. One step of a lane at a time.
  StepRows step(std::span<const StepRequest> requests);
  // The head on hidden states of the step before, at most Engine::logit_rows_at_once() of them. Valid until the next
  // call and the next step; the step's own logits stay as they are.
  OutputRows logits_of(const OutputRows& hidden);
  // Of each of these rows the counts[r] likeliest tokens below `drawable`, as in its whole row of logits to the bit,
  // but without one (models/likeliest.h). Where Engine::heads_in_stretches().
  std::vector<std::vector<LikelyToken>> likeliest_of(const OutputRows& hidden, std::span<const std::int64_t> counts,
                                                     std::int64_t drawable);
  // Floats that heads have been computed into so far: what logits take of the memory.
  std::uint64_t logit_floats() const { return logits_.size() + headed_.size(); }

  // Has later steps write down what their operators cost; null ends it.
  void set_profile(models::OperatorProfile* profile) { profile_ = profile; }

  ThreadPool& pool() { return pool_; }
  int threads() const { return pool_.size(); }
  std::span<const int> cores() const { return cores_; }

 private:
  Engine& engine_;
  const std::vector<int> cores_;
  ThreadPool pool_;
  models::Workspace workspace_;
  std::vector<float> hidden_;  // [wanted rows, D], those for logits first
  std::vector<float> logits_;  // of a step
  std::vector<float> headed_;  // of logits_of()
  models::OperatorProfile* profile_ = nullptr;
};

}  // namespace krait::runtime
