// Selective scan of Mamba (Gu & Dao 2023, S6): the recurrence of every channel e and state n
//   dt    = softplus(dt_raw[t, e] + dt_bias[e])                     (softplus optional)
//   h[n]  = exp(dt A[n, e]) h[n] + dt B[t, n] x[t, e]               (exact exponential for A, Euler for B)
//   y     = sum_n C[t, n] h[n] + D[e] x[t, e],   times silu(z[t, e]) where a gate is given
// The gate acts on y only, never on the state. Vectorised over channels, hence states stand as [N, E].
#pragma once

#include <span>

#include "krait/core/dtype.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// Real is float, and double for the oracle.
template <class Real>
struct SelectiveScanOf {
  std::int64_t channels = 0;      // E
  std::int64_t states = 0;        // N
  std::int64_t groups = 1;        // G: channel e uses B and C of group e / (E / G); E % G == 0
  const Real* a = nullptr;        // [N, E], negative: -exp(A_log)
  const Real* d = nullptr;        // [E] or null
  const Real* dt_bias = nullptr;  // [E] or null
  bool dt_softplus = true;
  DType state_dtype =
      DType::kF32;  // or bf16 or int8, as state_storage.h has them: rows of E / G values, [N, G] of them
};
using SelectiveScan = SelectiveScanOf<float>;

// x, dt, y [M, E]; b, c [M, G*N]; z [M, E] or empty. y may be x (each element is read before it is written).
// Each sequence's state [N, E] is read as h before its first row and left as h after its last.
// For training, `borders` takes the states before every kSelectiveChunk rows of a sequence, the first included, in
// f32: [chunks, N, E] of the first sequence, then of the next; selective_chunks() of them. Null: none are written.
inline constexpr std::int64_t kSelectiveChunk = 32;
std::int64_t selective_chunks(std::span<const SequenceRows> sequences);
void selective_scan(ThreadPool& pool, const SelectiveScan& scan, RowsIn x, RowsIn dt, RowsIn b, RowsIn c, RowsIn z,
                    std::span<const SequenceRows> sequences, RowsOut y, float* borders = nullptr);

}  // namespace krait::kernels
