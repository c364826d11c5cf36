#include "krait/nn/mamba_initialisers.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>

namespace krait::nn {

Tensor time_step_bias(std::int64_t count, const TimeStepRange& range) {
  const Tensor dt =
      at::empty({count}).uniform_(std::log(range.low), std::log(range.high)).exp_().clamp_min_(range.floor);
  // The inverse of softplus: dt + log(1 - exp(-dt)).
  return dt + at::log(-at::expm1(-dt));
}

Tensor s4d_real_log(std::int64_t channels, std::int64_t states) {
  return at::log(at::arange(1, states + 1, at::kFloat)).repeat({channels, 1});
}

Tensor uniform_log(std::int64_t heads, double low, double high) {
  return at::empty({heads}).uniform_(low, high).log_();
}

}  // namespace krait::nn
