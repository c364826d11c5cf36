// Elementwise functions under autograd (kernels/activation.h).
#pragma once

#include <ATen/core/Tensor.h>

namespace krait::nn {

using at::Tensor;

// x * silu(gate), of one shape: the gate of Mamba and of SwiGLU.
Tensor silu_gate(const Tensor& x, const Tensor& gate);

}  // namespace krait::nn
