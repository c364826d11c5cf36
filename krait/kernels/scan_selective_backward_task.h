// What one task of selective_scan_backward works on: a block of channels through the rows of some sequences. Internal
// to the kernel.
#pragma once

#include "krait/kernels/scan_selective_backward.h"

namespace krait::kernels {

// A task is a block of channels of one group: wide enough that summing dB and dC across its lanes costs little beside
// the recurrence, narrow enough that 1536 channels of two sequences make a dozen tasks.
inline constexpr std::int64_t kBlockChannels = 256;
// States go so many at a time through a whole chunk of rows, forwards and backwards.
inline constexpr std::int64_t kStateGroup = 4;

struct SelectiveBackwardTask {
  const SelectiveScan* scan;
  const SelectiveScanInputs* in;
  const SelectiveScanGradients* gradients;
  RowsIn dy;
  std::int64_t first_channel, channels, group;
  RowsOut b, c;         // [M, N]: dB and dC summed over the block
  float *a, *d, *bias;  // [N, E], [E], [E]: where this task's sums over its sequences belong
};

struct SelectiveBackwardSequence {
  std::int64_t first_row, rows;
  const float* borders;  // [chunks, N, E]
  SequenceGradients state;
};

}  // namespace krait::kernels
