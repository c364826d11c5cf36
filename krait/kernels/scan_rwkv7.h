// The recurrence of RWKV-7's time mixing (Peng et al. 2025, "RWKV-7 Goose", eq. 17): a generalised delta rule with a
// decay for every key channel. Each head has a matrix S [value, key]:
//   S <- S diag(w[t]) - (S kappa[t]) b[t]^T + v[t] k[t]^T,   y[t] = S r[t]
// kappa is the normalised removal key, b = a kappa what replaces it (rwkv7_gates.h makes both).
// States stand transposed, as [H, key, value]: the value dimension is contiguous and vectorised over, so no sum runs
// across a vector, and columns of values are independent of each other. A task takes a few heads of one sequence and
// runs its rows one after the other on a block of columns that stays in the first cache; each row reads and writes
// the block once, since S kappa of the next row is gathered while this row's S is at hand.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

struct Rwkv7Scan {
  std::int64_t heads = 0;       // H
  std::int64_t head_width = 0;  // P, of keys and of values
};

// All [M, H*P]; y must not overlap the others. Each sequence's state [H, P, P] (f32) is read as S before its first row
// and left as S after its last.
struct Rwkv7ScanInputs {
  RowsIn r, w, k, v, kappa, b;
};
void rwkv7_scan(ThreadPool& pool, const Rwkv7Scan& scan, const Rwkv7ScanInputs& in,
                std::span<const SequenceRows> sequences, RowsOut y);

}  // namespace krait::kernels
