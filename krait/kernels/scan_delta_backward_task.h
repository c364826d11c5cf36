// What one task of delta_scan_backward works on: the rows of one sequence and the value heads of one key head. Internal
// to the kernel.
#pragma once

#include "krait/kernels/scan_delta_backward.h"

namespace krait::kernels {

struct DeltaBackwardTask {
  const DeltaScan* scan = nullptr;
  const DeltaScanInputs* in = nullptr;
  const DeltaBackwardSequence* sequence = nullptr;
  const DeltaGradients* gradients = nullptr;
  RowsIn d_o;
  const float* saved = nullptr;  // of the sequence's first chunk
  double* da = nullptr;          // [Hv] of the sequence, written
  std::int64_t key_head = 0;
};

}  // namespace krait::kernels
