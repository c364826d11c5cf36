// AdamW over a model's parameters, in the groups that the papers' recipes have: matrices decay; norms, biases, A_log, D
// and the time steps' biases do not, and the parameters of a time-invariant model's kernel have a rate of their own.
// The arithmetic is kernels/adamw.h, in one pass over each parameter's memory; where that is, optimiser_state.h knows.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <vector>

#include "krait/train/optimiser_state.h"

namespace krait::train {

struct OptimiserOptions {
  double b1 = 0.9, b2 = 0.95;
  double epsilon = 1e-8;
  double decay = 0.1;
  double clip = 1.0;           // the most that the gradient's norm may be; 0: no limit
  double average_decay = 0.0;  // of the moving average of the parameters; 0: none is kept
  double kernel_rate = 0.0;    // the most that the rate of kernel parameters (A, B, dt of S4) is; 0: as all others'
};

struct OptimiserStep {
  bool taken = false;  // false: a gradient was not finite, nothing has changed
  double norm = 0.0;   // of the gradient before clipping
};

class Optimiser {
 public:
  // The module must outlive it. Parameters are float32. `state` is of that module; null: in memory.
  Optimiser(torch::nn::Module& module, const OptimiserOptions& options, std::shared_ptr<OptimiserState> state = {});

  // Uses up the gradients: they are gone afterwards. `rate` as the schedule has it.
  OptimiserStep step(double rate);
  std::int64_t steps() const { return steps_; }

  // Swaps the averaged parameters in, and out again; nothing where none are kept.
  void swap_average() { state_->swap_average(); }
  bool has_average() const { return options_.average_decay > 0.0; }

  // Parameters, moments and averages for a checkpoint, and their places for its reader. Where a run has several
  // optimisers, `prefix` tells their providers apart.
  std::vector<std::unique_ptr<StateProvider>> providers(const std::string& prefix = {}) const {
    return state_->providers(prefix);
  }
  void set_steps(std::int64_t steps) { steps_ = steps; }

  std::int64_t parameters() const { return parameters_; }  // numbers, not tensors
  const OptimiserOptions& options() const { return options_; }

 private:
  struct Group {
    bool decays = false, is_kernel = false;
  };
  OptimiserOptions options_;
  std::vector<Group> groups_;  // of each parameter
  std::shared_ptr<OptimiserState> state_;
  std::int64_t parameters_ = 0, steps_ = 0;
};

}  // namespace krait::train
