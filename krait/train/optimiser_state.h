// What AdamW keeps beside the parameters, and the gradients, wherever they are: in memory (below), or in a file
// (offloaded_state.h). Parameters are numbered as the module names them.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "krait/kernels/adamw.h"
#include "krait/train/checkpoint_state.h"

namespace krait::train {

class OptimiserState {
 public:
  virtual ~OptimiserState() = default;
  // Of all gradients: each parameter's sum on its own, added in their order.
  virtual double sum_of_squares() = 0;
  // Called for stretches of each parameter, in order, whose numbers it changes in place.
  using Update = std::function<void(std::size_t parameter, const kernels::AdamWParameter& stretch)>;
  virtual void update(const Update& update) = 0;
  virtual void drop_gradients() = 0;
  virtual void swap_average() = 0;
  // Parameters, moments and averages, for a checkpoint and for its reader. They must not outlive this.
  virtual std::vector<std::unique_ptr<StateProvider>> providers(const std::string& prefix) = 0;
};

std::span<float> values_of(const at::Tensor& tensor);
// 0 for a gradient that is not there.
double gradient_squares(const at::Tensor& parameter);

class OptimiserTensors final : public OptimiserState {
 public:
  // The module must outlive it.
  OptimiserTensors(const torch::nn::Module& module, bool has_average);

  double sum_of_squares() override;
  void update(const Update& update) override;
  void drop_gradients() override;
  void swap_average() override;
  std::vector<std::unique_ptr<StateProvider>> providers(const std::string& prefix) override;

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter, m, v, average;
  };
  std::vector<Slot> slots_;
  bool has_average_;
};

}  // namespace krait::train
