// Causal depthwise convolution over time, with the last K-1 inputs of every sequence kept as its state.
//   y[t, c] = f( bias[c] + sum_k weight[k, c] * x[t - (K-1) + k, c] ),  f = silu or identity
// Positions before the first row of a call come from the window, so calls chain: any cut of a sequence gives
// the same result. A fresh sequence has a window of zeros.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

template <class Real>
struct Conv1dCausalOf {
  static constexpr std::int64_t kMostWidth = 16;

  std::int64_t width = 4;        // K, 1 … kMostWidth
  const Real* weight = nullptr;  // [K, C], oldest tap first (checkpoints store [C, 1, K])
  const Real* bias = nullptr;    // [C] or null
  bool silu = true;
};
using Conv1dCausal = Conv1dCausalOf<float>;

// x [M, C], y [M, C] (distinct). Each sequence's state is its window [K-1, C], oldest row first: read as the rows
// before its first row, left as the last K-1 rows seen. Works for any number of rows, one or thousands.
void conv1d_causal(ThreadPool& pool, const Conv1dCausal& conv, RowsIn x, std::span<const SequenceRows> sequences,
                   RowsOut y);

}  // namespace krait::kernels
