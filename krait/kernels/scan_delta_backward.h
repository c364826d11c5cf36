// Gradients of the gated delta rule (scan_delta.h), of sum(d_o o) + sum(d_S_last S_last). Backwards through the rows,
// with dS the gradient of S after row t:
//   dS += q d_o^T,  du = dS^T k,  dx = beta du  (x = v - S'^T k, S' = exp(a dt) S of the row before)
//   dq = S d_o,  dk = dS u - S' dx,  dv = dx,  dbeta = du . x,  dS' = dS - k dx^T
//   d(a dt) = <dS', S'>,  dS of the row before = exp(a dt) dS'
// The kernel runs this chunk by chunk in matrix form (Yang, Wang, Zhang, Shen & Kim 2024, "Parallelizing linear
// transformers with the delta rule over sequence length"; simd/delta_chunks_backward-inl.h): all products with S are
// then products of matrices. It reads the states that delta_scan saved at the start of every chunk.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/scan_delta.h"

namespace krait::kernels {

template <class T>
struct DeltaBackwardSequenceOf {
  std::int64_t first_row = 0, rows = 0;
  const T* final_gradient = nullptr;  // [Hv, Dk, Dv], or null: zero
  T* initial_gradient = nullptr;      // [Hv, Dk, Dv], written; or null: not wanted
};
using DeltaBackwardSequence = DeltaBackwardSequenceOf<float>;

// Shapes as the inputs'; must not overlap them. Rows of no sequence are left alone.
template <class T>
struct DeltaGradientsOf {
  Rows<T> q, k, v, dt, beta;  // written
  T* a = nullptr;             // [Hv], added to; or null
};
using DeltaGradients = DeltaGradientsOf<float>;

// saved: as delta_scan left it for the same scan, inputs and sequences. d_o [M, Hv*Dv].
void delta_scan_backward(ThreadPool& pool, const DeltaScan& scan, const DeltaScanInputs& in, const float* saved,
                         RowsIn d_o, std::span<const DeltaBackwardSequence> sequences, const DeltaGradients& gradients);

}  // namespace krait::kernels
