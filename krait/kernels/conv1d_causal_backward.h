// Gradients of the causal depthwise convolution (conv1d_causal.h). With s the sum before the activation:
//   ds[t, c]      = dy[t, c] f'(s[t, c])
//   dx[t, c]      = sum_k weight[k, c] ds[t + (K-1) - k, c]      rows past the last one count as zero
//   dweight[k, c] = sum_t ds[t, c] x[t - (K-1) + k, c],   dbias[c] = sum_t ds[t, c]
// The window is the K-1 rows before the first: its gradient is dx there. The window that a sequence leaves is its last
// K-1 rows: what flows back into it is added to theirs. s is computed again from x, nothing is kept from the forward.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/conv1d_causal.h"
#include "krait/kernels/rows.h"
#include "krait/kernels/sequence_gradients.h"

namespace krait::kernels {

template <class Real>
struct Conv1dCausalGradientsOf {
  Rows<Real> x;            // [M, C], written
  Real* weight = nullptr;  // [K, C], added to; null: not wanted
  Real* bias = nullptr;    // [C], added to; null: not wanted
};
using Conv1dCausalGradients = Conv1dCausalGradientsOf<float>;

// x [M, C] as the forward had it, dy [M, C]. Each sequence's state is its window as it was before the forward (read
// only), or null for zeros. `windows` has the gradients of the windows of each sequence, [K-1, C], or is empty. The
// gradient of x must not overlap x or dy; rows that belong to no sequence are left alone.
void conv1d_causal_backward(ThreadPool& pool, const Conv1dCausal& conv, RowsIn x, RowsIn dy,
                            std::span<const SequenceRows> sequences, std::span<const SequenceGradients> windows,
                            const Conv1dCausalGradients& gradients);

}  // namespace krait::kernels
