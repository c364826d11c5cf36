// Runs a model for many sequences: owns the model, the pool of states, and a lane over all its cores, and offers one
// hot call, the batched step. Further lanes (lane.h) step at the same time on groups of its cores.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "krait/core/thread_pool.h"
#include "krait/models/model.h"
#include "krait/runtime/lane.h"
#include "krait/runtime/state_pool.h"

namespace krait::runtime {

struct EngineOptions {
  int threads = 0;                   // 0: one for each core the process may use
  std::int64_t prefill_chunk = 512;  // most tokens of one sequence in a step; bounds scratch memory
  // Bytes that states of sequences may take; 0: half of the memory that is left once the model is loaded. Taken only
  // as states are used.
  std::uint64_t state_memory = 0;
};

class Engine {
 public:
  explicit Engine(std::unique_ptr<models::Model> model, EngineOptions options = {});

  const models::Model& model() const { return *model_; }
  const EngineOptions& options() const { return options_; }
  StatePool& states() { return states_; }

  // The lane over all cores. What stands below is its own.
  Lane& whole() { return whole_; }
  ThreadPool& pool() { return whole_.pool(); }
  StepRows step(std::span<const StepRequest> requests) { return whole_.step(requests); }
  OutputRows logits_of(const OutputRows& hidden) { return whole_.logits_of(hidden); }
  std::vector<std::vector<LikelyToken>> likeliest_of(const OutputRows& hidden, std::span<const std::int64_t> counts,
                                                     std::int64_t drawable) {
    return whole_.likeliest_of(hidden, counts, drawable);
  }
  std::uint64_t logit_floats() const { return whole_.logit_floats(); }
  void set_profile(models::OperatorProfile* profile) { whole_.set_profile(profile); }

  // A lane on `count` of the engine's cores, from the `first` on (counted from 0). Lanes may overlap, and must not
  // outlive the engine. Throws UserError for cores that it does not have.
  std::unique_ptr<Lane> make_lane(int first, int count);
  int cores() const { return whole_.threads(); }

  // Throws UserError for a token outside the vocabulary.
  void check_tokens(std::span<const TokenId> tokens) const;
  // Whether likeliest_of() is to be had.
  bool heads_in_stretches() const { return models::has_head_in_stretches(*model_); }
  // Rows of logits a step may produce without needing an unreasonable buffer (about 16 MiB).
  std::int64_t logit_rows_at_once() const;

 private:
  std::unique_ptr<models::Model> model_;
  EngineOptions options_;
  std::vector<int> cores_;  // that the process may use, by place
  StatePool states_;
  Lane whole_;
};

}  // namespace krait::runtime
