// Gradients of s4d_scan (scan_s4d.h). With g the gradient of h, from the last row to the first:
//   g[m] = conj(w[m]) dy[t] + conj(z[m]) g[m],   dx[t] = Re sum_m g[m] + D dy[t],
//   dw[m] = sum_t dy[t] conj(h[m]),   dz[m] = sum_t g[m] conj(h[t-1, m]),   dD = sum_t x dy
// A complex number's gradient is that of its real part + i that of its imaginary part. Within a chunk, which begins at
// one of the borders that the forward pass has left, these sums are polynomials in z: no state is computed again.
#pragma once

#include "krait/kernels/scan_s4d.h"
#include "krait/kernels/sequence_gradients.h"

namespace krait::kernels {

template <class T>
struct S4dScanGradientsOf {
  Rows<T> x;       // [rows, C], written; may be dy
  T* z = nullptr;  // [M, 2, C], added to; null: not wanted, like the next two
  T* w = nullptr;  // [M, 2, C]
  T* d = nullptr;  // [C]
};
using S4dScanGradients = S4dScanGradientsOf<float>;

// x, dy [rows, C]. `borders` is what s4d_scan wrote for the same sequences, whose states are not read here. `states`
// has one entry for each sequence, or none at all.
void s4d_scan_backward(ThreadPool& pool, const S4dScan& scan, RowsIn x, std::span<const SequenceRows> sequences,
                       const float* borders, RowsIn dy, std::span<const SequenceGradients> states,
                       const S4dScanGradients& gradients);

}  // namespace krait::kernels
