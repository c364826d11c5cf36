// Gradients of ssd_scan (scan_ssd.h). With G [N, P] the gradient of a head's S, a = exp(dt A), from the last row to the
// first:
//   G[n, p] += C[t, n] dy[t, p]
//   dC[t, n] = sum_{h, p} dy[t, p] S[n, p],           dB[t, n] = sum_{h, p} G[n, p] dt x[t, p]
//   dx = dt sum_n G[n, p] B[t, n] + D dy,             dD = sum dy x
//   d dt = sum_p x sum_n G[n, p] B[t, n] + A d(dt A), d(dt A) = a sum_{n, p} G[n, p] S_{t-1}[n, p],  dA = sum dt d(dt
//   A) G[n, p] *= a
// dt's gradient goes through the limits (none beyond them) and the softplus to the raw dt and its bias.
// Computed in the chunked matrix form, simd/ssd_backward-inl.h; rounding apart, the result does not depend on the
// chunk.
#pragma once

#include "krait/kernels/scan_ssd.h"
#include "krait/kernels/sequence_gradients.h"

namespace krait::kernels {

template <class Real>
struct SsdScanInputsOf {
  Rows<const Real> x, dt, b, c;  // as ssd_scan takes them
};
using SsdScanInputs = SsdScanInputsOf<float>;

template <class Real>
struct SsdScanGradientsOf {
  Rows<Real> x, dt, b, c;   // written, shaped as the inputs
  Real* a = nullptr;        // [H], added to; null: not wanted, like the next two
  Real* d = nullptr;        // [H] or [H*P], as D
  Real* dt_bias = nullptr;  // [H]
};
using SsdScanGradients = SsdScanGradientsOf<float>;

// dy [M, H*P]. `borders` is what ssd_scan wrote for the same sequences, whose states are not read here.
// `states` has one entry for each sequence, or none at all. Gradients must overlap neither dy nor the inputs. Where D
// or the bias is absent, so is its gradient.
void ssd_scan_backward(ThreadPool& pool, const SsdScan& scan, const SsdScanInputs& in,
                       std::span<const SequenceRows> sequences, const float* borders, RowsIn dy,
                       std::span<const SequenceGradients> states, const SsdScanGradients& gradients);

}  // namespace krait::kernels
