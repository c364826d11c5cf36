// Oracle: S4D's scan and its gradients in std::complex<double>, all states kept. States are given apart from the
// sequences, one [M, 2, C] for each, or none at all. Also what nn computes double tensors with.
#pragma once

#include <span>

#include "krait/kernels/scan_s4d_backward.h"

namespace krait::kernels::reference {

// `states` are left as h after the last row.
void s4d_scan(const S4dScanOf<double>& scan, Rows<const double> x, std::span<const SequenceRows> sequences,
              std::span<double* const> states, Rows<double> y);

void s4d_scan_backward(const S4dScanOf<double>& scan, Rows<const double> x, Rows<const double> dy,
                       std::span<const SequenceRows> sequences, std::span<const double* const> initial_states,
                       std::span<const SequenceGradientsOf<double>> states,
                       const S4dScanGradientsOf<double>& gradients);

}  // namespace krait::kernels::reference
