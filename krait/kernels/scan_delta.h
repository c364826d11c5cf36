// The gated delta rule (Yang, Kautz & Hatamizadeh 2024, "Gated Delta Networks", eq. 10), as in Qwen3-Next. Each value
// head has a matrix S [key, value]:
//   S <- exp(a dt[t]) S,   u = beta[t] (v[t] - S^T k[t]),   S <- S + k[t] u^T,   o[t] = S^T q[t]
// Value head h has key head floor(h Hk / Hv). Queries and keys come normalised and scaled.
// The value dimension is contiguous and vectorised over: no sum runs across a vector, and columns of values are
// independent of each other. A task runs its rows one after the other on a block of columns that stays in the first
// cache; each row reads and writes the block once, since S^T k of the next row is gathered while this row's S is at
// hand. That is four multiply-adds an element and row. The chunked form (WY) needs three for its products with S and
// more inside the chunk, so in f32 it would gain nothing.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// T is float; double for the plain loops (reference/scan_delta.h).
template <class T>
struct DeltaScanOf {
  std::int64_t key_heads = 0;    // Hk
  std::int64_t value_heads = 0;  // Hv, a multiple of Hk
  std::int64_t key_width = 0;    // Dk
  std::int64_t value_width = 0;  // Dv
  const T* a = nullptr;          // [Hv], negative
  std::int64_t chunk = 32;       // rows from one saved state to the next; o does not depend on it
};
using DeltaScan = DeltaScanOf<float>;

// q, k [M, Hk*Dk], v [M, Hv*Dv], dt and beta [M, Hv]; o [M, Hv*Dv] must not overlap the others. Each sequence's state
// [Hv, Dk, Dv] (f32) is read as S before its first row and left as S after its last.
template <class T>
struct DeltaScanInputsOf {
  Rows<const T> q, k, v, dt, beta;
};
using DeltaScanInputs = DeltaScanInputsOf<float>;

// saved, for delta_scan_backward: S before the first row of every chunk, [saved_chunks_of(sequences, chunk), Hv, Dk,
// Dv] (saved_chunks.h); or null.
void delta_scan(ThreadPool& pool, const DeltaScan& scan, const DeltaScanInputs& in,
                std::span<const SequenceRows> sequences, RowsOut o, float* saved = nullptr);

}  // namespace krait::kernels
