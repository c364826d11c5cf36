// Backward of s4d_kernel.h. With the moments of a kernel's gradient
//   M0[n] = sum_l dK[l] z[n]^l,   M1[n] = sum_l l dK[l] z[n]^(l-1)
// the gradients of w = C B weight and of z are 2 conj(M0) and 2 conj(w M1), and the rest is the chain rule in double
// (s4d_states.h). Nothing of the forward pass is kept; moments cost twice the kernel.
#pragma once

#include "krait/kernels/s4d_kernel.h"

namespace krait::kernels {

// Each as its parameter, added to; what is null is not computed.
template <class T>
struct S4dKernelGradientsOf {
  T* log_dt = nullptr;
  T* log_decay = nullptr;
  T* frequency = nullptr;
  T* b = nullptr;
  T* c = nullptr;
};
using S4dKernelGradients = S4dKernelGradientsOf<float>;

// dkernel [R * H, L].
void s4d_kernel_backward(ThreadPool& pool, const S4dKernel& parameters, RowsIn dkernel,
                         const S4dKernelGradients& gradients);

}  // namespace krait::kernels
