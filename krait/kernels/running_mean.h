// The mean of every column over the tokens of a sequence so far, and how far a token is from the mean of those before
// it: centring that looks at no later token.
//   c[t] = x[t] - m[t-1],  m[t] = m[t-1] + c[t] / (t + 1),  m[-1] = 0
// x[t] - m[t] is c[t] t / (t + 1): it has the signs of c[t], but is zero for the first token, which c is not.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// x, centred [M, C]; mean [M, C] or empty takes m[t]. positions [M]: t of every row, consecutive within a sequence.
// Each sequence's state [C] (f32) is read as m before its first row and left as m after its last. centred and mean may
// be x, but not overlap each other.
void running_mean(ThreadPool& pool, RowsIn x, std::span<const std::int64_t> positions,
                  std::span<const SequenceRows> sequences, RowsOut centred, RowsOut mean);

}  // namespace krait::kernels
