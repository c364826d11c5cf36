// How a long convolution is cut into tasks, which forward and backward share: a vector of channels and a group of
// sequences, ordered by the length of their transforms so that a kernel is transformed once for all of one length.
#pragma once

#include <algorithm>
#include <deque>
#include <span>
#include <vector>

#include "krait/kernels/fft_plan.h"
#include "krait/kernels/long_convolution.h"

namespace krait::kernels {

// Sequences of one group whose transforms have the same length.
struct ConvolutionBatch {
  const FftPlan* plan = nullptr;
  std::vector<SequenceRows> sequences;
};

struct ConvolutionTasks {
  // Checks the shapes; `blocks` is how many vectors the channels take. Groups depend on the shapes alone.
  ConvolutionTasks(const LongConvolution& convolution, RowsIn x, std::span<const SequenceRows> sequences,
                   std::int64_t blocks);

  std::deque<FftPlan> plans;
  std::vector<std::vector<ConvolutionBatch>> groups;
  std::int64_t longest = 0;  // points and one more of the longest transform, 0 without rows
};

// The taps that a transform of `length` takes in: all that meet a sequence of that length, and none that would come
// round the circle. They do not depend on a sequence's rows, so that one beside others gives what it gives alone.
// (Where a sequence of T rows cuts a kernel short, length >= 2 T - 1; else all of the kernel fits beside T.)
inline std::int64_t taps_behind(const LongConvolution& convolution, std::int64_t length) {
  return std::min(convolution.kernel.columns, length / 2);
}
inline std::int64_t taps_ahead(const LongConvolution& convolution, std::int64_t length) {
  return std::clamp<std::int64_t>(length / 2 - convolution.first_ahead, 0, convolution.ahead.columns);
}

}  // namespace krait::kernels
