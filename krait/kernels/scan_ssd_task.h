// What one task of ssd_scan works on: the rows of one sequence and a few of its heads. Internal to the kernel.
#pragma once

#include "krait/kernels/rows.h"
#include "krait/kernels/scan_ssd.h"
#include "krait/kernels/state_storage.h"

namespace krait::kernels {

struct SsdTask {
  const SsdScan* scan = nullptr;
  RowsIn x, dt, b, c;
  RowsOut y;
  std::int64_t first_row = 0, rows = 0;
  std::int64_t first_head = 0, heads = 0;
  std::byte* state = nullptr;  // of the whole sequence: [H, N, P]
  float* borders = nullptr;    // null, or [chunks, H, N, P] of the sequence
  // For more than one row, what the heads of a group share: of every chunk C B^T [Q, Q] and B^T [N, Q] (Q padded),
  // [group][chunk] with chunks of the whole call.
  const float* cb = nullptr;
  const float* b_transposed = nullptr;
  std::int64_t first_chunk = 0, chunk_count = 0;

  std::int64_t group(std::int64_t head) const { return head / (scan->heads / scan->groups); }
  std::byte* head_state(std::int64_t head) const {
    return state + head * scan->states * scan->head_width * state_value_bytes(scan->state_dtype);
  }
  // The scales of a head's rows, where the dtype has any.
  std::byte* head_scales(std::int64_t head) const {
    if (scan->state_dtype != DType::kI8) return nullptr;
    const std::int64_t per_head = scan->states * state_blocks(scan->head_width) * 4;
    return state + state_scales_offset(scan->heads * scan->states, scan->head_width) + head * per_head;
  }
  // D of a head: one value, or P when d_per_channel; null without.
  const float* head_d(std::int64_t head) const {
    if (scan->d == nullptr) return nullptr;
    return scan->d + (scan->d_per_channel ? head * scan->head_width : head);
  }
};

// Rows of scratch are whole vectors of the widest target (16 lanes).
inline std::int64_t ssd_padded(std::int64_t count) { return (count + 15) / 16 * 16; }

// A chunk of a sequence of several rows.
struct SsdChunk {
  std::int64_t first_row = 0, rows = 0;
};

}  // namespace krait::kernels
