// Convolution of a sequence with a kernel as long as itself, one kernel per channel, by Fourier transforms:
//   y[t, c] = sum_j kernel[c, j] x[t - j, c]  +  sum_j ahead[c, j] x[t + first_ahead + j, c]  +  D[c] x[t, c]
// where x is zero outside the sequence. This is how time-invariant models are trained (S4: Gu, Goel & Ré 2022; long
// convolutions: Fu et al. 2023); `ahead` makes them see both ways. Taps that reach past a sequence count for nothing,
// so a kernel may be shorter or longer than it.
//
// A sequence of T rows is padded with zeros to at least twice the reach of the kernel within it, so nothing comes round
// the circle. Work grows as T log T; scratch is a few transforms of one vector of channels, whatever B and C. Errors
// are relative to the norms of a channel's kernel and sequence, not to each y: about eps log2(T) |kernel| |x|.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

template <class T>
struct LongConvolutionOf {
  Rows<const T> kernel;          // [C, L]
  Rows<const T> ahead;           // [C, any length], or empty
  std::int64_t first_ahead = 0;  // what ahead[c, 0] reads: x[t], or with 1 x[t + 1], as the S4 repository trains it
  const T* d = nullptr;          // [C] or null
};
using LongConvolution = LongConvolutionOf<float>;

// x, y [M, C]; y may be x. Sequences begin with nothing behind them: their state is not read, nor written.
void long_convolution(ThreadPool& pool, const LongConvolution& convolution, RowsIn x,
                      std::span<const SequenceRows> sequences, RowsOut y);

}  // namespace krait::kernels
