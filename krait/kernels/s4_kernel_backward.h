// Backward of s4_kernel.h, all in double inside: the spectrum of dK, back through Woodbury's identity to each q at each
// node, then for each state sums over nodes of what it gave there. Nothing of the forward pass is kept.
#pragma once

#include "krait/kernels/s4_kernel.h"

namespace krait::kernels {

// Each as its parameter, added to; what is null is not computed. P's gradient is of both its places in A.
template <class T>
struct S4KernelGradientsOf {
  T* log_dt = nullptr;
  T* log_decay = nullptr;
  T* frequency = nullptr;
  T* p = nullptr;
  T* b = nullptr;
  T* c = nullptr;
};
using S4KernelGradients = S4KernelGradientsOf<float>;

// dkernel [copies * H, L].
void s4_kernel_backward(ThreadPool& pool, const S4Kernel& parameters, RowsIn dkernel,
                        const S4KernelGradients& gradients);

}  // namespace krait::kernels
