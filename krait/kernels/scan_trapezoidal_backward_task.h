// What one task of trapezoidal_scan_backward works on, some heads of one group in some sequences, and where it puts
// what others have a part in. Internal to the kernel.
#pragma once

#include <span>

#include "krait/kernels/scan_trapezoidal_backward.h"
#include "krait/kernels/scan_trapezoidal_task.h"

namespace krait::kernels {

// Of a row, gradients that heads share: of rms(B_r) b_norm and rms(C_r) c_norm of the task's group, and of
// pi tanh(angle).
struct TrapezoidalSharedColumns {
  std::int64_t b, c;  // [R, N]
  std::int64_t turn;  // [angles]
  std::int64_t count;

  explicit TrapezoidalSharedColumns(const TrapezoidalScan& scan) {
    b = 0;
    c = trapezoidal_padded(scan.rank * scan.states);
    turn = 2 * c;
    count = turn + trapezoidal_padded(scan.angles);
  }
};

// Of a row, gradients of a head's sizes, [H] each: of A dt, (1 - l) dt and l dt, and of dt where it turns theta.
struct TrapezoidalSizeColumns {
  std::int64_t log_decay, shift, gamma, dt, count;

  explicit TrapezoidalSizeColumns(const TrapezoidalScan& scan) {
    const std::int64_t per_head = trapezoidal_padded(scan.heads);
    log_decay = 0;
    shift = per_head;
    gamma = 2 * per_head;
    dt = 3 * per_head;
    count = 4 * per_head;
  }
};

// Gradients of one head's parameters. Rows of P are padded to whole vectors.
struct TrapezoidalParameterColumns {
  std::int64_t b_bias, c_bias;                // [R, N]
  std::int64_t value_mix, gate_mix, out_mix;  // [R, P]
  std::int64_t norm, d;                       // [P]; that of D is the sum of its P
  std::int64_t count;

  explicit TrapezoidalParameterColumns(const TrapezoidalScan& scan) {
    const std::int64_t keys = trapezoidal_padded(scan.rank * scan.states);
    const std::int64_t width = trapezoidal_padded(scan.head_width);
    b_bias = 0;
    c_bias = keys;
    value_mix = 2 * keys;
    gate_mix = value_mix + scan.rank * width;
    out_mix = gate_mix + scan.rank * width;
    norm = out_mix + scan.rank * width;
    d = norm + width;
    count = d + width;
  }
};

struct TrapezoidalBackwardTask {
  const TrapezoidalScan* scan = nullptr;
  const TrapezoidalInputs* in = nullptr;
  const TrapezoidalGradients* gradients = nullptr;
  RowsIn prepared;  // [M, TrapezoidalColumns]
  RowsIn d_y;
  TrapezoidalSaved saved;
  std::span<const TrapezoidalBackwardSequence> sequences;
  const std::int64_t* first_chunks = nullptr;  // of each of them, among the saved ones
  std::int64_t first_head = 0, heads = 0;
  RowsOut shared;      // [M, TrapezoidalSharedColumns], written by its first head and added to by the others
  RowsOut sizes;       // [M, TrapezoidalSizeColumns], written
  RowsOut parameters;  // [H, TrapezoidalParameterColumns], added to: zero before

  std::int64_t group() const { return first_head / (scan->heads / scan->groups); }
};

// The last stage: rows `first` … `end` of one sequence.
struct TrapezoidalRowsBackward {
  const TrapezoidalScan* scan = nullptr;
  const TrapezoidalInputs* in = nullptr;
  const TrapezoidalGradients* gradients = nullptr;
  RowsIn prepared;
  const RowsOut* shared = nullptr;  // of all blocks of heads; those of a group stand together
  std::int64_t blocks = 0;          // of a group
  RowsIn sizes;
  std::int64_t first = 0, end = 0;
  // Sums over these rows, written.
  float* dt_bias = nullptr;  // [H] padded
  float* b_norm = nullptr;   // [N] padded
  float* c_norm = nullptr;
};

}  // namespace krait::kernels
