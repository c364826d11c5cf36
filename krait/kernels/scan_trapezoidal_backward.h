// Gradients of the scan of Mamba-3 (scan_trapezoidal.h), of sum(d_y y) and of what is asked of the last state, with
// respect to all rows, all parameters and the first state.
// theta kept within a turn is theta less a constant (2 pi times a whole number): its gradient is that of the sum of
// pi tanh(angle) dt, as if nothing were taken off. A decay at its floor has no gradient with respect to a_raw.
//
// The kernel has three stages. Rows: what all heads share is prepared as forward does it. Core: each task takes some
// heads of one group through the chunks of some sequences, from the last to the first, in matrix form
// (simd/trapezoidal_chunks_backward-inl.h); S of a chunk's start is what trapezoidal_scan saved, dS is all that is
// carried. Rows again: the gradients of b, c and angle, which heads share, are summed over the tasks' buffers
// ([M, 2 R N + angles] of each, at most max(G, 8) of them) and go back through the norms.
// Results do not depend on the number of threads.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/scan_trapezoidal.h"

namespace krait::kernels {

// States and their gradients stand as the scan says (S and the offsets from it), all of T, also where the scan's
// own states are narrower.
template <class T>
struct TrapezoidalBackwardSequenceOf {
  std::int64_t first_row = 0, rows = 0;
  const std::byte* initial = nullptr;         // the state before the first row, or null: zero
  const std::byte* final_gradient = nullptr;  // of the state after the last row, or null: zero
  std::byte* initial_gradient = nullptr;      // written; or null: not wanted
};
using TrapezoidalBackwardSequence = TrapezoidalBackwardSequenceOf<float>;

// Shapes as those of what they are gradients of; must not overlap them.
template <class T>
struct TrapezoidalGradientsOf {
  Rows<T> x, z, b, c, dt, a, trap, angle;  // written; rows of no sequence are left alone
  // Added to; or null: not wanted.
  T* dt_bias = nullptr;
  T* b_norm = nullptr;
  T* c_norm = nullptr;
  T* b_bias = nullptr;
  T* c_bias = nullptr;
  T* d = nullptr;
  T* value_mix = nullptr;
  T* gate_mix = nullptr;
  T* out_mix = nullptr;
  T* norm = nullptr;
};
using TrapezoidalGradients = TrapezoidalGradientsOf<float>;

// saved: as trapezoidal_scan left it for the same scan, inputs and sequences. d_y [M, H*P].
void trapezoidal_scan_backward(ThreadPool& pool, const TrapezoidalScan& scan, const TrapezoidalInputs& in,
                               const TrapezoidalSaved& saved, RowsIn d_y,
                               std::span<const TrapezoidalBackwardSequence> sequences,
                               const TrapezoidalGradients& gradients);

}  // namespace krait::kernels
