// How a diagonal scan is cut into tasks, forward and backward: a sequence and a block of states.
#pragma once

#include <span>

#include "krait/core/check.h"
#include "krait/kernels/scan_diagonal.h"

namespace krait::kernels {

// Four vectors of AVX-512, whose recurrences run side by side.
inline constexpr std::int64_t kDiagonalBlock = 64;

inline std::int64_t diagonal_blocks(std::int64_t states) { return (states + kDiagonalBlock - 1) / kDiagonalBlock; }

inline void check_diagonal_scan(const DiagonalScan& scan, std::span<const SequenceRows> sequences, std::int64_t rows) {
  KRAIT_CHECK((scan.a != nullptr) != !scan.a_rows.empty(), "a is either constant or of each row");
  KRAIT_CHECK(scan.a_rows.empty() || scan.a_rows.columns == 2 * scan.states, "{} columns of a for {} states",
              scan.a_rows.columns, scan.states);
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, rows);
  }
}

}  // namespace krait::kernels
