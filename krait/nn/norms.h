// Norms over the last dimension under autograd (kernels/norm.h, kernels/layer_norm.h). Weights are [D] or undefined.
#pragma once

#include <ATen/core/Tensor.h>

#include "krait/kernels/norm.h"

namespace krait::nn {

using at::Tensor;

// y = x / sqrt(mean(x^2) + epsilon) * weight
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon);

// The residual stream's step from one block to the next: sum = residual + delta, y = rms(sum) * weight.
struct AddedNorm {
  Tensor sum, y;
};
AddedNorm add_rms_norm(const Tensor& residual, const Tensor& delta, const Tensor& weight, double epsilon);

// Mamba-2's: the last dimension in `groups` equal parts with statistics of their own, before or after silu(gate).
Tensor gated_rms_norm(const Tensor& x, const Tensor& gate, const Tensor& weight, double epsilon,
                      std::int64_t groups = 1, kernels::GateOrder order = kernels::GateOrder::kGateThenNorm);

}  // namespace krait::nn
