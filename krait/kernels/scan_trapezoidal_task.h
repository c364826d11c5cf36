// What one task of trapezoidal_scan works on: the rows of one sequence and a few of its heads; and what all heads share
// of a row, computed beforehand. Internal to the kernel.
#pragma once

#include "krait/kernels/rows.h"
#include "krait/kernels/scan_trapezoidal.h"
#include "krait/kernels/state_storage.h"

namespace krait::kernels {

// Rows of scratch are whole vectors of the widest target (16 lanes).
inline std::int64_t trapezoidal_padded(std::int64_t count) { return (count + 15) / 16 * 16; }

// Columns of a prepared row.
struct TrapezoidalColumns {
  std::int64_t dt, log_decay, shift, gamma;  // [H]: dt; A dt / ln 2; (1 - l) dt; l dt
  std::int64_t turn;                         // [angles]: pi tanh(angle)
  std::int64_t b, c;                         // [R, G, N]: rms(B_r) b_norm
  std::int64_t count;

  explicit TrapezoidalColumns(const TrapezoidalScan& scan) {
    const std::int64_t per_head = trapezoidal_padded(scan.heads);
    const std::int64_t wide = trapezoidal_padded(scan.rank * scan.groups * scan.states);
    dt = 0;
    log_decay = per_head;
    shift = 2 * per_head;
    gamma = 3 * per_head;
    turn = 4 * per_head;
    b = turn + trapezoidal_padded(scan.angles);
    c = b + wide;
    count = c + wide;
  }
};

// Sizes that do not fit are an error of ours. y: or its gradient.
void trapezoidal_check(const TrapezoidalScan& scan, const TrapezoidalInputs& in, RowsIn y);
// prepared [M, columns]
void trapezoidal_prepare_rows(ThreadPool& pool, const TrapezoidalScan& scan, const TrapezoidalInputs& in,
                              RowsOut prepared);

struct TrapezoidalTask {
  const TrapezoidalScan* scan = nullptr;
  const TrapezoidalInputs* in = nullptr;
  RowsIn prepared;  // [M, columns]
  RowsOut y;
  std::int64_t first_row = 0, rows = 0;
  std::int64_t first_head = 0, heads = 0;
  std::byte* state = nullptr;
  TrapezoidalSaved saved;  // null: nothing is saved
  std::int64_t first_chunk = 0;

  std::int64_t group(std::int64_t head) const { return head / (scan->heads / scan->groups); }
  std::byte* head_state(std::int64_t head) const {
    return state + head * scan->states * scan->head_width * state_value_bytes(scan->state_dtype);
  }
  std::byte* head_scales(std::int64_t head) const {
    if (scan->state_dtype != DType::kI8) return nullptr;
    return state + state_scales_offset(scan->heads * scan->states, scan->head_width) +
           head * scan->states * state_blocks(scan->head_width) * 4;
  }
  float* head_angles(std::int64_t head) const {
    return reinterpret_cast<float*>(state + scan->angle_offset) + head * scan->angles;
  }
  float* head_key(std::int64_t head) const {
    return reinterpret_cast<float*>(state + scan->key_offset) + head * scan->rank * scan->states;
  }
  float* head_value(std::int64_t head) const {
    return reinterpret_cast<float*>(state + scan->value_offset) + head * scan->head_width;
  }
  // Among all saved ones, of the task's chunk `chunk`.
  float* saved_state(std::int64_t chunk, std::int64_t head) const {
    return saved.s + ((first_chunk + chunk) * scan->heads + head) * scan->states * scan->head_width;
  }
  float* saved_angles(std::int64_t chunk, std::int64_t head) const {
    return saved.angle + ((first_chunk + chunk) * scan->heads + head) * scan->angles;
  }
  // [R, P] of a head, or null.
  const float* mix(const float* all, std::int64_t head) const {
    return all == nullptr ? nullptr : all + head * scan->rank * scan->head_width;
  }
};

}  // namespace krait::kernels
