// Oracle: gradients of the gated delta rule as the recurrence of scan_delta_backward.h, in double.
#pragma once

#include <span>

#include "krait/kernels/reference/scan_delta.h"
#include "krait/kernels/scan_delta_backward.h"

namespace krait::kernels::reference {

// One sequence: rows and sequence.first_row … of every matrix. initial [Hv, Dk, Dv]: the state before its first row, or
// null: zero. Nothing is saved beforehand: the states of all rows are computed and kept.
void delta_scan_backward(const DeltaScanOf<double>& scan, const DeltaScanInputsOf<double>& in, const double* initial,
                         Rows<const double> d_o, const DeltaBackwardSequenceOf<double>& sequence,
                         const DeltaGradientsOf<double>& gradients);

}  // namespace krait::kernels::reference
