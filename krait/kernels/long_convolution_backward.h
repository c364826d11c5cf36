// Backward of long_convolution.h. With u = dL/dy:
//   dx[t, c]      = sum_j kernel[c, j] u[t + j, c] + sum_j ahead[c, j] u[t - first_ahead - j, c] + D[c] u[t, c]
//   dkernel[c, j] = sum_t x[t - j, c] u[t, c],  dahead[c, j] = sum_t x[t + first_ahead + j, c] u[t, c],
//   dD[c]         = sum_t x[t, c] u[t, c],      sums over all sequences.
// Sequences are transformed once each and summed as spectra; the order of the sums depends on the lengths alone.
#pragma once

#include "krait/kernels/long_convolution.h"

namespace krait::kernels {

// What is empty or null is not computed.
template <class T>
struct LongConvolutionGradientsOf {
  Rows<T> x;       // [M, C], written; may be dy
  Rows<T> kernel;  // [C, L], added to
  Rows<T> ahead;   // as the convolution's, added to
  T* d = nullptr;  // [C], added to
};
using LongConvolutionGradients = LongConvolutionGradientsOf<float>;

// x, dy [M, C].
void long_convolution_backward(ThreadPool& pool, const LongConvolution& convolution, RowsIn x, RowsIn dy,
                               std::span<const SequenceRows> sequences, const LongConvolutionGradients& gradients);

}  // namespace krait::kernels
