// What a run with [memory] has beside the others: the plan, the state in a file, and gradients layer by layer.
#pragma once

#include <memory>
#include <optional>

#include "krait/train/layer_inputs.h"
#include "krait/train/memory_plan.h"
#include "krait/train/offloaded_state.h"
#include "krait/train/run_config.h"
#include "krait/train/trainer.h"

namespace krait::train {

class RunMemory {
 public:
  // The plan alone. The source is left where it was.
  static Result<MemoryPlan> plan(const RunConfig& config, BatchSource& source);
  // Makes the file and, in it, the run's model.
  static Result<std::unique_ptr<RunMemory>> open(const RunConfig& config, BatchSource& source);

  const MemoryPlan& plan() const { return plan_; }
  const std::shared_ptr<nn::LanguageModel>& model() const { return model_; }
  TrainerMemory for_trainer();

 private:
  RunMemory() = default;
  MemoryPlan plan_;
  std::shared_ptr<OffloadedState> state_;
  std::shared_ptr<nn::LanguageModel> model_;
  std::unique_ptr<GradientTensors> gradients_;  // where they are in memory
  std::optional<LayerInputFile> inputs_;
  std::optional<LayeredGradients> layered_;
};

}  // namespace krait::train
