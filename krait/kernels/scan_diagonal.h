// A diagonal linear recurrence over complex states, the middle of S5 (Smith, Warrington & Linderman 2023) and of the
// LRU (Orvieto et al. 2023):
//   h[t] = a o h[t-1] + u[t],   a constant, or a[t] of each row
// What makes u of x and y of h (B x and Re(C h)) are matrix products of real matrices, which is why a row of N complex
// numbers stands as its N real parts and then its N imaginary parts.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// One of the two is given.
template <class T>
struct DiagonalScanOf {
  std::int64_t states = 0;  // N
  const T* a = nullptr;     // [2 N]
  Rows<const T> a_rows;     // [M, 2 N]
};
using DiagonalScan = DiagonalScanOf<float>;

// u, h [M, 2 N]; h may be u. Each sequence's state [2 N] is read as h before its first row and left as h after its
// last; null: zeros, and not kept.
void diagonal_scan(ThreadPool& pool, const DiagonalScan& scan, RowsIn u, std::span<const SequenceRows> sequences,
                   RowsOut h);

}  // namespace krait::kernels
