// The convolution kernel of S4D under autograd (kernels/s4d_kernel.h has the equations). Complex parameters are real
// tensors whose last dimension is the real and the imaginary part.
#pragma once

#include "krait/kernels/diagonal_discretisation.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct S4dKernelInputs {
  Tensor log_dt = {};     // [H], or [H, M]
  Tensor log_decay = {};  // [S, M], S a divisor of H
  Tensor frequency = {};  // [S, M]
  Tensor b = {};          // [S, M, 2], or undefined: all 1
  Tensor c = {};          // [R, H, M, 2]
  kernels::Discretisation method = kernels::Discretisation::kZeroOrderHold;
  double rate = 1.0;  // 2: the signal comes half as often as in training
};

// [R * H, length], row r H + h: R = 1 as long_convolution takes it.
Tensor s4d_kernel(const S4dKernelInputs& in, std::int64_t length);

}  // namespace krait::nn
