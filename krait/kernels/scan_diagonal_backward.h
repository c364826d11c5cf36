// Gradients of diagonal_scan (scan_diagonal.h). With g the whole gradient of h, from the last row to the first:
//   g[t] = dh[t] + conj(a[t+1]) g[t+1],   du[t] = g[t],   da[t] = g[t] conj(h[t-1])
// A complex number's gradient is that of its real part + i that of its imaginary part. The rows h that the forward pass
// wrote are read: whoever wants C's gradient has them anyway.
#pragma once

#include "krait/kernels/scan_diagonal.h"
#include "krait/kernels/sequence_gradients.h"

namespace krait::kernels {

template <class T>
struct DiagonalScanGradientsOf {
  Rows<T> u;       // [M, 2 N], written; may be dh
  T* a = nullptr;  // [2 N], added to; null: not wanted. Of a constant a
  Rows<T> a_rows;  // [M, 2 N], written; empty: not wanted. Of an a of each row
};
using DiagonalScanGradients = DiagonalScanGradientsOf<float>;

// h, dh [M, 2 N]. Each sequence's state is h before its first row, as the forward pass found it (null: zeros), and is
// only read. `states` has one entry for each sequence, or none at all.
void diagonal_scan_backward(ThreadPool& pool, const DiagonalScan& scan, RowsIn h, RowsIn dh,
                            std::span<const SequenceRows> sequences, std::span<const SequenceGradients> states,
                            const DiagonalScanGradients& gradients);

}  // namespace krait::kernels
