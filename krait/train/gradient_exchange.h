// Training on the data of several processes at once: each has its part of every step's batch, and what comes out is, up
// to the rounding of sums, what one process would have made of the whole batch.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "krait/train/data_loader.h"
#include "krait/train/evaluation.h"
#include "krait/train/process_group.h"
#include "krait/train/trainer.h"

namespace krait::train {

// The configuration's batch is that of all processes: each gets an equal part of it. kInvalidArgument where it cannot.
Result<void> take_part(DataLoaderOptions& loader, const ProcessGroup& group);

class GradientExchange final : public StepReduction {
 public:
  // `wants_stop` is asked once a step. The group must outlive this.
  GradientExchange(ProcessGroup& group, std::function<bool()> wants_stop)
      : group_(group), wants_stop_(std::move(wants_stop)) {}

  Result<void> sum_counts(StepReport& report) override;
  Result<void> sum_gradients(torch::nn::Module& model, StepReport& report) override;
  // Whether one of the ranks wanted to stop when the last step began; the same on all.
  bool stops() const { return stops_; }

 private:
  ProcessGroup& group_;
  std::function<bool()> wants_stop_;
  bool stops_ = false;
};

// All ranks get the parameters, the optimiser's state, the place in the data and the counters of rank 0: one folder of
// checkpoints is enough, and small differences of machines play no part in where training begins.
Result<void> share_state(Trainer& trainer, ProcessGroup& group);
// A contiguous part of `count` things, which each belong to one rank.
struct Part {
  std::int64_t first = 0, count = 0;
};
Part own_part(std::int64_t count, const ProcessGroup* group);

// Whether it is so on any of the ranks.
Result<void> any_of(bool& flag, ProcessGroup& group);
// What each rank has found in its part of the held-out data becomes what all have found.
Result<void> add_up(TextEvaluation& text, ProcessGroup& group);
Result<void> add_up(TaskScore& score, ProcessGroup& group);
// Rank 0 tells whether it has an error, and which.
Result<void> share_outcome(const Result<void>& outcome, ProcessGroup& group);
// That the ranks' parameters are still the same, to the bit.
Result<void> check_state(const Trainer& trainer, ProcessGroup& group);

}  // namespace krait::train
