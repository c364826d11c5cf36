#include <ATen/Functions.h>

#include <algorithm>

#include "krait/nn/compute_threads.h"
#include "krait/train/optimiser_state.h"

namespace krait::train {
namespace {

formats::NamedTensor named(const std::string& name, const at::Tensor& tensor) {
  return {.name = name,
          .view = {.dtype = DType::kF32,
                   .shape = tensor.sizes().vec(),
                   .bytes = std::as_bytes(std::span<const float>(values_of(tensor)))}};
}

}  // namespace

std::span<float> values_of(const at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

double gradient_squares(const at::Tensor& parameter) {
  const at::Tensor& gradient = parameter.grad();
  return gradient.defined() ? kernels::sum_of_squares(nn::ComputePool(), values_of(gradient.contiguous())) : 0.0;
}

OptimiserTensors::OptimiserTensors(const torch::nn::Module& module, bool has_average) : has_average_(has_average) {
  for (const auto& parameter : module.named_parameters()) {
    const at::Tensor& tensor = parameter.value();
    slots_.push_back({.name = parameter.key(),
                      .parameter = tensor,
                      .m = at::zeros_like(tensor),
                      .v = at::zeros_like(tensor),
                      .average = has_average ? tensor.detach().clone() : at::Tensor()});
  }
}

double OptimiserTensors::sum_of_squares() {
  double squares = 0.0;
  for (const Slot& slot : slots_) squares += gradient_squares(slot.parameter);
  return squares;
}

void OptimiserTensors::update(const Update& update) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    at::Tensor gradient = slot.parameter.grad();
    gradient = gradient.defined() ? gradient.contiguous() : at::zeros_like(slot.parameter);
    update(i, {.values = values_of(slot.parameter),
               .gradient = values_of(gradient),
               .m = values_of(slot.m),
               .v = values_of(slot.v),
               .average = has_average_ ? values_of(slot.average) : std::span<float>()});
  }
}

void OptimiserTensors::drop_gradients() {
  for (Slot& slot : slots_) slot.parameter.mutable_grad() = at::Tensor();
}

void OptimiserTensors::swap_average() {
  if (!has_average_) return;
  for (Slot& slot : slots_) std::ranges::swap_ranges(values_of(slot.parameter), values_of(slot.average));
}

std::vector<std::unique_ptr<StateProvider>> OptimiserTensors::providers(const std::string& prefix) {
  std::vector<formats::NamedTensor> parameters, m, v, averages;
  for (const Slot& slot : slots_) {
    parameters.push_back(named(slot.name, slot.parameter));
    m.push_back(named(slot.name, slot.m));
    v.push_back(named(slot.name, slot.v));
    if (has_average_) averages.push_back(named(slot.name, slot.average));
  }
  std::vector<std::unique_ptr<StateProvider>> result;
  const auto add = [&](const char* name, std::vector<formats::NamedTensor>& tensors) {
    result.push_back(std::make_unique<TensorStateProvider>(prefix + name, std::move(tensors)));
  };
  add("parameters", parameters);
  add("adamw_first_moment", m);
  add("adamw_second_moment", v);
  if (has_average_) add("averages", averages);
  return result;
}

}  // namespace krait::train
