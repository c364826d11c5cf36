// Gradients of selective_scan (scan_selective.h). With g the gradient of h, dy' = dy silu(z) that of the ungated y, and
// a = exp(dt A), from the last row to the first:
//   g[n] += C[t, n] dy'
//   dC[t, n] = sum_e dy' h[n],              dB[t, n] = sum_e g[n] dt x
//   dx = dt sum_n g[n] B[t, n] + D dy',     dD = sum_t dy' x
//   d dt = x sum_n g[n] B[t, n] + sum_n g[n] a A[n] h[t - 1, n],   through the softplus to the raw dt and its bias
//   dA[n] = sum_t g[n] a dt h[t - 1, n],    dz = dy y silu'(z),    g[n] *= a
// States are recomputed one chunk at a time from the borders that the forward pass has left; y before the gate is
// recomputed with them.
#pragma once

#include "krait/kernels/scan_selective.h"
#include "krait/kernels/sequence_gradients.h"

namespace krait::kernels {

template <class Real>
struct SelectiveScanInputsOf {
  Rows<const Real> x, dt, b, c, z;  // as selective_scan takes them
};
using SelectiveScanInputs = SelectiveScanInputsOf<float>;

template <class Real>
struct SelectiveScanGradientsOf {
  Rows<Real> x, dt, b, c, z;  // written, shaped as the inputs; z is empty where that input is
  Real* a = nullptr;          // [N, E], added to; null: not wanted, like the next two
  Real* d = nullptr;          // [E]
  Real* dt_bias = nullptr;    // [E]
};
using SelectiveScanGradients = SelectiveScanGradientsOf<float>;

// dy [M, E]. `borders` is what selective_scan wrote for the same sequences, whose states are not read here.
// `states` has one entry for each sequence, or none at all. The gradients of x, dt and z may be dy or stand in the
// place of their inputs: each element is read before it is written. Where D or the bias is absent, so is its gradient.
void selective_scan_backward(ThreadPool& pool, const SelectiveScan& scan, const SelectiveScanInputs& in,
                             std::span<const SequenceRows> sequences, const float* borders, RowsIn dy,
                             std::span<const SequenceGradients> states, const SelectiveScanGradients& gradients);

}  // namespace krait::kernels
