// The convolution kernel of S4, diagonal less low rank, under autograd (kernels/s4_kernel.h has the equations). Complex
// parameters are real tensors whose last dimension is the real and the imaginary part.
#pragma once

#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct S4KernelInputs {
  Tensor log_dt = {};     // [H]
  Tensor log_decay = {};  // [S, M], S a divisor of H
  Tensor frequency = {};  // [S, M]
  Tensor p = {};          // [rank, S, M, 2], rank 0, 1 or 2
  Tensor b = {};          // [S, M, 2]
  Tensor c = {};          // [copies, H, M, 2]: C (1 - Abar^length), what is learnt
  double rate = 1.0;      // 2: the signal comes half as often as in training
};

// [copies * H, length], row r H + h; the length is the one that C was made for.
Tensor s4_kernel(const S4KernelInputs& in, std::int64_t length);

}  // namespace krait::nn
