// Oracle: gradients of Mamba-3's scan, by its recurrence in double.
#pragma once

#include "krait/kernels/reference/scan_trapezoidal.h"
#include "krait/kernels/scan_trapezoidal_backward.h"

namespace krait::kernels::reference {

// One sequence: its rows of every matrix. Nothing is saved beforehand: the states of all rows of a head are computed
// and kept.
void trapezoidal_scan_backward(const TrapezoidalScanOf<double>& scan, const TrapezoidalInputsOf<double>& in,
                               Rows<const double> d_y, const TrapezoidalBackwardSequenceOf<double>& sequence,
                               const TrapezoidalGradientsOf<double>& gradients);

}  // namespace krait::kernels::reference
