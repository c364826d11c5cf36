// Token shift of RWKV (Peng et al. 2023): inputs blended with the ones of the token before, channel by channel.
//   y_j[t, c] = x[t, c] + (x[t-1, c] - x[t, c]) mix[j, c]
// The row before the first of a call comes from the state, so calls chain; a fresh sequence has a row of zeros.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

struct TokenShift {
  const float* mix = nullptr;  // [C]
  RowsOut y;                   // [M, C], distinct from x
};

// x [M, C]. Each sequence's state is one row [C], left as its last row of x.
void token_shift(ThreadPool& pool, RowsIn x, std::span<const SequenceRows> sequences,
                 std::span<const TokenShift> shifts);

}  // namespace krait::kernels
