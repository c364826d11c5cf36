#include "krait/train/optimiser.h"

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
  constexpr std::array<std::string_view, 13> kNever = {"A_log",  "D",      "dt_bias",        "B_bias",    "C_bias",
                                                       "mimo_x", "mimo_z", "mimo_o",         "log_decay", "frequency",
                                                       "log_dt", "bias",   "hash_projection"};
  return parameter.dim() >= 2 && std::ranges::find(kNever, last_part(name)) == kNever.end();
}

bool is_kernel(std::string_view name) {
  constexpr std::array<std::string_view, 5> kKernel = {"log_dt", "log_decay", "frequency", "B", "P"};
  return std::ranges::find(kKernel, last_part(name)) != kKernel.end();
}

}  // namespace

Optimiser::Optimiser(torch::nn::Module& module, const OptimiserOptions& options, std::shared_ptr<OptimiserState> state)
    : options_(options), state_(std::move(state)) {
  for (const auto& parameter : module.named_parameters()) {
    const at::Tensor& tensor = parameter.value();
    if (tensor.scalar_type() != at::kFloat || (state_ == nullptr && !tensor.is_contiguous())) {
      throw UserError(fmt::format("parameter {} is {}", parameter.key(), c10::toString(tensor.scalar_type())),
                      "parameters are trained in float32");
    }
    groups_.push_back({.decays = decays(parameter.key(), tensor),
                       .is_kernel = options.kernel_rate > 0.0 && is_kernel(parameter.key())});
    parameters_ += tensor.numel();
  }
  if (state_ == nullptr) state_ = std::make_shared<OptimiserTensors>(module, has_average());
}

OptimiserStep Optimiser::step(double rate) {
  const double squares = state_->sum_of_squares();
  OptimiserStep result{.taken = std::isfinite(squares), .norm = std::sqrt(squares)};
  if (result.taken) {
    ++steps_;
    kernels::AdamW adamw{.b1 = options_.b1,
                         .b2 = options_.b2,
                         .epsilon = options_.epsilon,
                         .step = steps_,
                         .average_decay = options_.average_decay};
    if (options_.clip > 0.0 && result.norm > options_.clip) adamw.gradient_scale = options_.clip / result.norm;
    // A parameter that had no part in this step has a gradient of zeros: its moments go on.
    state_->update([&](std::size_t i, const kernels::AdamWParameter& stretch) {
      adamw.rate = groups_[i].is_kernel ? std::min(rate, options_.kernel_rate) : rate;
      adamw.decay = groups_[i].decays ? options_.decay : 0.0;
      kernels::adamw_update(nn::ComputePool(), adamw, stretch);
    });
  }
  state_->drop_gradients();
  return result;
}

}  // namespace krait::train
