// Runs a model for many sequences: owns its threads, its scratch memory and the pool of states, and offers one hot
// call, the batched step.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "krait/core/thread_pool.h"
#include "krait/formats/tokenizer.h"
#include "krait/models/likeliest.h"
#include "krait/models/model.h"
#include "krait/runtime/state_pool.h"

namespace krait::runtime {

using formats::TokenId;
using models::LikelyToken;

class Session;

struct EngineOptions {
  int threads = 0;                   // 0: one for each core the process may use
  std::int64_t prefill_chunk = 512;  // most tokens of one sequence in a step; bounds scratch memory
  // Bytes that states of sequences may take; 0: half of the memory that is left once the model is loaded. Taken only
  // as states are used.
  std::uint64_t state_memory = 0;
};

// What a model says after a token: its logits, or the hidden state that the head would make them of.
enum class StepOutput : std::uint8_t { kLogits, kHidden };

// One sequence's part of a step.
struct StepRequest {
  Session* session = nullptr;
  std::span<const TokenId> tokens;  // at least one
  std::int64_t wanted_from = 0;     // an output is wanted after tokens[wanted_from] and all later ones
  StepOutput output = StepOutput::kLogits;
};

// Rows of a step's output in the order of the requests that asked for it and of their tokens. Valid until the engine's
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

class Engine {
 public:
  explicit Engine(std::unique_ptr<models::Model> model, EngineOptions options = {});

  const models::Model& model() const { return *model_; }
  const EngineOptions& options() const { return options_; }
  ThreadPool& pool() { return pool_; }
  StatePool& states() { return states_; }

  // Throws UserError for a token outside the vocabulary.
  void check_tokens(std::span<const TokenId> tokens) const;

  // Advances the sessions by their tokens. No session may stand twice in a step. Throws UserError for a token outside
  // the vocabulary, before anything has changed. One step at a time.
  StepRows step(std::span<const StepRequest> requests);
  // The head on hidden states of the step before, at most logit_rows_at_once() of them. Valid until the next call and
  // the next step; the step's own logits stay as they are.
  OutputRows logits_of(const OutputRows& hidden);
  // Of each of these rows the counts[r] likeliest tokens below `drawable`, as in its whole row of logits to the bit,
  // but without one (models/likeliest.h). Where heads_in_stretches().
  std::vector<std::vector<models::LikelyToken>> likeliest_of(const OutputRows& hidden,
                                                             std::span<const std::int64_t> counts,
                                                             std::int64_t drawable);
  bool heads_in_stretches() const { return models::has_head_in_stretches(*model_); }
  // Floats that heads have been computed into so far: what logits take of the memory.
  std::uint64_t logit_floats() const { return logits_.size() + headed_.size(); }

  // Has later steps write down what their operators cost; null ends it.
  void set_profile(models::OperatorProfile* profile) { profile_ = profile; }

  // Rows of logits a step may produce without needing an unreasonable buffer (about 16 MiB).
  std::int64_t logit_rows_at_once() const;

 private:
  std::unique_ptr<models::Model> model_;
  EngineOptions options_;
  ThreadPool pool_;
  StatePool states_;
  models::Workspace workspace_;
  std::vector<float> hidden_;  // [wanted rows, D], those for logits first
  std::vector<float> logits_;  // of a step
  std::vector<float> headed_;  // of logits_of()
  models::OperatorProfile* profile_ = nullptr;
};

}  // namespace krait::runtime
