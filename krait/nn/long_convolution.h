// The convolution with a kernel as long as the sequence under autograd (kernels/long_convolution.h).
//   y[t, c] = sum_j kernel[c, j] x[t - j, c]  +  sum_j ahead[c, j] x[t + first_ahead + j, c]  +  D[c] x[t, c]
#pragma once

#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct LongConvolutionInputs {
  Tensor x = {};       // [..., C]
  Tensor kernel = {};  // [C, L], L of any length
  Tensor ahead = {};   // [C, any length], or undefined, as is what follows
  Tensor d = {};       // [C]
  std::int64_t first_ahead = 0;
};

// As x. Nothing reaches over the ends of a segment.
Tensor long_convolution(const LongConvolutionInputs& in, const Segments& segments);

}  // namespace krait::nn
