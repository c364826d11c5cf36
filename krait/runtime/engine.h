// Runs a model for many sequences: owns its threads, its scratch memory and the pool of states, and offers one hot
// call, the batched step.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "krait/core/thread_pool.h"
#include "krait/formats/tokenizer.h"
#include "krait/models/model.h"
#include "krait/runtime/state_pool.h"

namespace krait::runtime {

using formats::TokenId;

class Session;

struct EngineOptions {
  int threads = 0;                   // 0: one for each core the process may use
  std::int64_t prefill_chunk = 512;  // most tokens of one sequence in a step; bounds scratch memory
  // Bytes that states of sequences may take; 0: half of the memory that is left once the model is loaded. Taken only
  // as states are used.
  std::uint64_t state_memory = 0;
};

// One sequence's part of a step.
struct StepRequest {
  Session* session = nullptr;
  std::span<const TokenId> tokens;  // at least one
  std::int64_t logits_from = 0;     // logits are wanted after tokens[logits_from] and all later ones
};

// Rows of logits in the order of the requests and their tokens; valid until the engine's next step.
struct LogitRows {
  const float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t vocabulary = 0;  // V
  std::span<const float> row(std::int64_t index) const {
    return {data + index * vocabulary, static_cast<std::size_t>(vocabulary)};
  }
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
  LogitRows step(std::span<const StepRequest> requests);

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
  std::vector<float> logits_;
  models::OperatorProfile* profile_ = nullptr;
};

}  // namespace krait::runtime
