// A training run, step by step: batches from a source, the loss and its gradients, the optimiser, the schedule. Who
// calls decides what happens between steps: evaluation, checkpoints, what is shown (training_run.h).
//
// A run that was interrupted goes on to the bit as it would have: all that a step depends on is in state_providers(),
// and nothing in a step depends on time or on the number of threads.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "krait/nn/language_model.h"
#include "krait/train/batch_source.h"
#include "krait/train/checkpoint_reader.h"
#include "krait/train/optimiser.h"
#include "krait/train/schedule.h"

namespace krait::train {

struct TrainerOptions {
  Schedule schedule;
  OptimiserOptions optimiser;
  std::int64_t accumulation = 1;  // batches a step
  nn::TokenLossOptions loss = {};
};

struct StepReport {
  std::int64_t step = 0;  // that was taken, from 0
  double loss = 0.0;      // mean over the labels of the step, in nats
  double rate = 0.0;
  double gradient_norm = 0.0;
  bool taken = true;  // false: a gradient was not finite, and the parameters stay
  std::int64_t tokens = 0, labels = 0;
  double seconds = 0.0;
  bool pretraining = false;  // set by the run, which counts the steps of both phases
};

// What the processes that train together tell one another in a step (gradient_exchange.h).
class StepReduction {
 public:
  virtual ~StepReduction() = default;
  // Before the loss: the report's tokens and labels become those of all, so that losses are shares of one mean.
  virtual Result<void> sum_counts(StepReport& report) = 0;
  // Before the optimiser: the gradients and the report's loss do.
  virtual Result<void> sum_gradients(torch::nn::Module& model, StepReport& report) = 0;
};

class LayeredGradients;

// Where things are that are not in memory (run_memory.h); by itself: everything is.
struct TrainerMemory {
  std::shared_ptr<OptimiserState> state = {};
  LayeredGradients* layered = nullptr;  // must outlive the trainer
};

class Trainer {
 public:
  // All must outlive it.
  Trainer(nn::LanguageModel& model, BatchSource& source, const TrainerOptions& options, TrainerMemory memory = {});

  Result<StepReport> step();
  std::int64_t steps_done() const { return step_; }
  bool is_done() const { return step_ >= options_.schedule.steps; }

  Optimiser& optimiser() { return optimiser_; }
  nn::LanguageModel& model() { return model_; }
  const TrainerOptions& options() const { return options_; }

  std::vector<std::unique_ptr<StateProvider>> state_providers() const;
  // What state_providers() told when the checkpoint was taken. kInvalidArgument where it is of another model or other
  // data; then the trainer must not be used further.
  Result<void> restore(const Checkpoint& checkpoint);

  // Where the data go on and what has been counted: what restore() takes besides the optimiser's tensors.
  std::vector<std::uint64_t> place() const { return source_.place(); }
  std::vector<std::uint64_t> counters() const;
  Result<void> set_progress(std::span<const std::uint64_t> place, std::span<const std::uint64_t> counters);

  // None: one process. It must outlive the trainer.
  void set_reduction(StepReduction* reduction) { reduction_ = reduction; }
  // What is called once a step, before the optimiser changes anything: forward and backward only read the state.
  void set_before_update(std::function<void()> call) { before_update_ = std::move(call); }

 private:
  nn::LanguageModel& model_;
  BatchSource& source_;
  TrainerOptions options_;
  LayeredGradients* layered_;
  Optimiser optimiser_;
  std::int64_t step_ = 0;
  std::uint64_t tokens_ = 0;
  StepReduction* reduction_ = nullptr;
  std::function<void()> before_update_;
};

// Steps that the trainer had done whose state the checkpoint has: fewer than the run had where phases precede.
Result<std::int64_t> trainer_steps(const Checkpoint& checkpoint);

// What a model reads of a batch: its sequences without the padding.
nn::Batch model_batch(const Batch& batch);
// The same for learning from it: what layers learn by losses of their own counts, like the model's, as the batch's
// share of all labels of the step.
nn::Batch step_batch(const Batch& batch, double divisor, std::uint64_t pass);

}  // namespace krait::train
