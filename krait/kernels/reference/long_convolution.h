// Oracle: the long convolution and its gradients as their sums, all in double. Slow on purpose; also what nn computes
// double tensors with.
#pragma once

#include <span>

#include "krait/kernels/long_convolution_backward.h"

namespace krait::kernels::reference {

void long_convolution(const LongConvolutionOf<double>& convolution, Rows<const double> x,
                      std::span<const SequenceRows> sequences, Rows<double> y);

void long_convolution_backward(const LongConvolutionOf<double>& convolution, Rows<const double> x,
                               Rows<const double> dy, std::span<const SequenceRows> sequences,
                               const LongConvolutionGradientsOf<double>& gradients);

}  // namespace krait::kernels::reference
