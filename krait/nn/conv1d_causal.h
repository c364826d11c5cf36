// The causal depthwise convolution under autograd (kernels/conv1d_causal.h).
//   y[t, c] = f( bias[c] + sum_k weight[c, k] x[t - (K-1) + k, c] ),  f = silu or identity
#pragma once

#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct ConvResult {
  Tensor y;       // as x
  Tensor window;  // [S, K-1, C]: the last K-1 inputs of each segment, what the next call takes as its window
};

// x [..., C] with the rows of the segments; weight [C, K] or [C, 1, K] as checkpoints store it; bias [C] or undefined;
// window [S, K-1, C], the inputs before each segment, undefined for zeros.
ConvResult conv1d_causal(const Tensor& x, const Tensor& weight, const Tensor& bias, const Segments& segments,
                         bool silu = true, const Tensor& window = {});

}  // namespace krait::nn
