// S4D stepped with its state (the kernel of s4d_kernel.h as a recurrence): for prompts and single tokens, and for
// training on stretches whose state goes on. Of every channel c and state m
//   h[m] = z[m] h[m] + x[t],   y[t] = Re sum_m w[m] h[m] + D x[t],   w = 2 C B weight
// so that B and C stand in one place; z, weight: diagonal_discretisation.h. Vectorised over channels, hence states
// stand as [M, 2, C], real parts and imaginary parts.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"
#include "krait/kernels/s4d_kernel.h"

namespace krait::kernels {

template <class T>
struct S4dScanOf {
  std::int64_t channels = 0;  // C
  std::int64_t states = 0;    // M
  const T* z = nullptr;       // [M, 2, C]
  const T* w = nullptr;       // [M, 2, C]
  const T* d = nullptr;       // [C] or null
};
using S4dScan = S4dScanOf<float>;

// z and w [M, 2, C] of a kernel's parameters, one copy.
void s4d_scan_parameters(const S4dKernel& parameters, float* z, float* w);

// Rows between the states that training keeps.
inline constexpr std::int64_t kS4dChunk = 64;
inline std::int64_t s4d_chunks(std::int64_t rows) { return (rows + kS4dChunk - 1) / kS4dChunk; }

// x, y [rows, C]; y may be x. Each sequence's state [M, 2, C] is read as h before its first row and left as h after its
// last; null: zeros, and not kept. For training, `borders` takes the states before every kS4dChunk rows of a sequence,
// the first included, in the order of the sequences: s4d_chunks(rows) states of each.
void s4d_scan(ThreadPool& pool, const S4dScan& scan, RowsIn x, std::span<const SequenceRows> sequences, RowsOut y,
              float* borders = nullptr);

}  // namespace krait::kernels
