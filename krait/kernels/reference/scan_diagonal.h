// Oracle: the diagonal scan and its gradients in std::complex<double>. States are given apart from the sequences, one
// [2 N] for each, or none at all. Also what nn computes double tensors with.
#pragma once

#include <span>

#include "krait/kernels/scan_diagonal_backward.h"

namespace krait::kernels::reference {

// `states` are left as h after the last row.
void diagonal_scan(const DiagonalScanOf<double>& scan, Rows<const double> u, std::span<const SequenceRows> sequences,
                   std::span<double* const> states, Rows<double> h);

void diagonal_scan_backward(const DiagonalScanOf<double>& scan, Rows<const double> h, Rows<const double> dh,
                            std::span<const SequenceRows> sequences, std::span<const double* const> initial_states,
                            std::span<const SequenceGradientsOf<double>> states,
                            const DiagonalScanGradientsOf<double>& gradients);

}  // namespace krait::kernels::reference
