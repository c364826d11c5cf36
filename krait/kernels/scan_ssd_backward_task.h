// What one task of ssd_scan_backward works on: the rows of one sequence and a few heads of one group. Internal to the
// kernel.
#pragma once

#include "krait/kernels/scan_ssd_backward.h"
#include "krait/kernels/scan_ssd_task.h"

namespace krait::kernels {

// What all heads of a group share of a chunk, or its gradients, which they add up: B^T and C^T [N, Q] and the products
// bc[j, i] = B_j . C_i [Q, Q] for j <= i, Q padded. Zero past the chunk's rows.
struct SsdChunkMatrices {
  float *b, *c, *bc;

  static std::int64_t floats(std::int64_t states, std::int64_t q) { return (2 * states + q) * q; }
  static SsdChunkMatrices at(float* from, std::int64_t states, std::int64_t q) {
    return {from, from + states * q, from + 2 * states * q};
  }
};

struct SsdBackwardTask {
  const SsdScan* scan = nullptr;
  const SsdScanInputs* in = nullptr;
  const SsdScanGradients* gradients = nullptr;
  RowsIn dy;
  std::int64_t first_row = 0, rows = 0;
  std::int64_t first_head = 0, heads = 0;
  const float* borders = nullptr;  // of the sequence: [chunks, H, N, P]
  SequenceGradients state;
  std::int64_t q = 0;            // the stride of chunks
  float* matrices = nullptr;     // of the group and the sequence's first chunk, then of the next
  float* to_matrices = nullptr;  // likewise their gradients, of this task's heads alone
  // Where the sums over this sequence's rows belong: [H], [H] or [H*P], [H].
  float *a = nullptr, *d = nullptr, *dt_bias = nullptr;

  std::int64_t group() const { return first_head / (scan->heads / scan->groups); }
};

}  // namespace krait::kernels
