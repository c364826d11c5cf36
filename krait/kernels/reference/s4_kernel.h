// Oracle: S4's kernel by plain complex Cauchy sums and a plain inverse transform in double, and the model itself step
// by step from its matrices. The backward is also what nn computes double tensors with.
#pragma once

#include <span>

#include "krait/kernels/s4_kernel_backward.h"

namespace krait::kernels::reference {

void s4_kernel(const S4KernelOf<double>& parameters, Rows<double> kernel);

void s4_kernel_backward(const S4KernelOf<double>& parameters, Rows<const double> dkernel,
                        const S4KernelGradientsOf<double>& gradients);

// u [T, H], y [T, H], copies = 1; parameters.c is C itself here: x[t] = Abar x[t-1] + Bbar u[t], y[t] = C x[t].
void s4_steps(const S4KernelOf<double>& parameters, Rows<const double> u, Rows<double> y);

}  // namespace krait::kernels::reference
