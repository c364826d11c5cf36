#include "krait/train/optimiser.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "krait/core/error.h"
#include "krait/kernels/adamw.h"
#include "krait/nn/compute_threads.h"

namespace krait::train {
namespace {

// The last part of a parameter's name: "weight" of "backbone.layers.0.norm.weight".
std::string_view last_part(std::string_view name) {
  const auto dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

// Matrices and tables; what is a vector, or stands for rates of decay, does not decay itself.
bool decays(std::string_view name, const at::Tensor& parameter) {
  constexpr std::array<std::string_view, 12> kNever = {"A_log",  "D",      "dt_bias",   "B_bias",    "C_bias", "mimo_x",
                                                       "mimo_z", "mimo_o", "log_decay", "frequency", "log_dt", "bias"};
  return parameter.dim() >= 2 && std::ranges::find(kNever, last_part(name)) == kNever.end();
}

bool is_kernel(std::string_view name) {
  constexpr std::array<std::string_view, 5> kKernel = {"log_dt", "log_decay", "frequency", "B", "P"};
  return std::ranges::find(kKernel, last_part(name)) != kKernel.end();
}

std::span<float> values(const at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

formats::NamedTensor named(const std::string& name, const at::Tensor& tensor) {
  return {.name = name,
          .view = {.dtype = DType::kF32,
                   .shape = tensor.sizes().vec(),
                   .bytes = std::as_bytes(std::span<const float>(values(tensor)))}};
}

}  // namespace

Optimiser::Optimiser(torch::nn::Module& module, const OptimiserOptions& options) : options_(options) {
  for (const auto& parameter : module.named_parameters()) {
    const at::Tensor& tensor = parameter.value();
    if (tensor.scalar_type() != at::kFloat || !tensor.is_contiguous()) {
      throw UserError(fmt::format("parameter {} is {}", parameter.key(), c10::toString(tensor.scalar_type())),
                      "parameters are trained in float32");
    }
    Slot slot{.name = parameter.key(),
              .parameter = tensor,
              .m = at::zeros_like(tensor),
              .v = at::zeros_like(tensor),
              .average = has_average() ? tensor.detach().clone() : at::Tensor(),
              .decays = decays(parameter.key(), tensor),
              .is_kernel = options.kernel_rate > 0.0 && is_kernel(parameter.key())};
    slots_.push_back(std::move(slot));
  }
}

OptimiserStep Optimiser::step(double rate) {
  const nn::ComputePool pool;
  double squares = 0.0;
  for (const Slot& slot : slots_) {
    const at::Tensor& gradient = slot.parameter.grad();
    if (gradient.defined()) squares += kernels::sum_of_squares(pool, values(gradient.contiguous()));
  }
  OptimiserStep result{.taken = std::isfinite(squares), .norm = std::sqrt(squares)};
  if (result.taken) {
    ++steps_;
    kernels::AdamW adamw{.b1 = options_.b1,
                         .b2 = options_.b2,
                         .epsilon = options_.epsilon,
                         .step = steps_,
                         .average_decay = options_.average_decay};
    if (options_.clip > 0.0 && result.norm > options_.clip) adamw.gradient_scale = options_.clip / result.norm;
    for (Slot& slot : slots_) {
      // A parameter that had no part in this step stays as it is, but its moments go on.
      at::Tensor gradient = slot.parameter.grad();
      gradient = gradient.defined() ? gradient.contiguous() : at::zeros_like(slot.parameter);
      adamw.rate = slot.is_kernel ? std::min(rate, options_.kernel_rate) : rate;
      adamw.decay = slot.decays ? options_.decay : 0.0;
      kernels::adamw_update(pool, adamw,
                            {.values = values(slot.parameter),
                             .gradient = values(gradient),
                             .m = values(slot.m),
                             .v = values(slot.v),
                             .average = has_average() ? values(slot.average) : std::span<float>()});
    }
  }
  for (Slot& slot : slots_) slot.parameter.mutable_grad() = at::Tensor();
  return result;
}

void Optimiser::swap_average() {
  if (!has_average()) return;
  for (Slot& slot : slots_) std::ranges::swap_ranges(values(slot.parameter), values(slot.average));
}

std::vector<TensorStateProvider> Optimiser::providers(const std::string& prefix) const {
  std::vector<formats::NamedTensor> parameters, m, v, averages;
  for (const Slot& slot : slots_) {
    parameters.push_back(named(slot.name, slot.parameter));
    m.push_back(named(slot.name, slot.m));
    v.push_back(named(slot.name, slot.v));
    if (has_average()) averages.push_back(named(slot.name, slot.average));
  }
  std::vector<TensorStateProvider> result;
  result.emplace_back(prefix + "parameters", std::move(parameters));
  result.emplace_back(prefix + "adamw_first_moment", std::move(m));
  result.emplace_back(prefix + "adamw_second_moment", std::move(v));
  if (has_average()) result.emplace_back(prefix + "averages", std::move(averages));
  return result;
}

std::int64_t Optimiser::parameters() const {
  std::int64_t sum = 0;
  for (const Slot& slot : slots_) sum += slot.parameter.numel();
  return sum;
}

}  // namespace krait::train
