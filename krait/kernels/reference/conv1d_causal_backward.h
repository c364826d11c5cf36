// Oracle: gradients of the causal convolution as plain loops in double, one sequence at a time. The forward pass in
// double is in elementwise.h. This is also how training runs in double.
#pragma once

#include "krait/kernels/conv1d_causal_backward.h"

namespace krait::kernels::reference {

// `window` [K-1, C]: the rows before the first; null for zeros.
void conv1d_causal_backward(const Conv1dCausalOf<double>& conv, Rows<const double> x, const double* window,
                            Rows<const double> dy, const SequenceGradientsOf<double>& windows,
                            const Conv1dCausalGradientsOf<double>& gradients);

}  // namespace krait::kernels::reference
