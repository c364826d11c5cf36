// Oracle: S4D's kernel as its sum, each power an exponential of its own, and the model itself step by step, all in
// double. The backward is also what nn computes double tensors with.
#pragma once

#include <span>

#include "krait/kernels/s4d_kernel_backward.h"

namespace krait::kernels::reference {

void s4d_kernel(const S4dKernelOf<double>& parameters, Rows<double> kernel);

void s4d_kernel_backward(const S4dKernelOf<double>& parameters, Rows<const double> dkernel,
                         const S4dKernelGradientsOf<double>& gradients);

// x [M, H], y [M, H], copies = 1: x[t] = z x[t-1] + B weight u[t], y[t] = 2 Re sum_n C x[t], from a state of zeros.
void s4d_steps(const S4dKernelOf<double>& parameters, Rows<const double> x, std::span<const SequenceRows> sequences,
               Rows<double> y);

}  // namespace krait::kernels::reference
