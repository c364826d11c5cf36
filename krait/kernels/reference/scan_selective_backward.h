// Oracle: gradients of selective_scan as the recurrence backwards, one sequence at a time, all in double. The forward
// pass in double is in scan.h. This is also how training runs in double.
#pragma once

#include "krait/kernels/reference/magnitude.h"
#include "krait/kernels/reference/scan.h"
#include "krait/kernels/scan_selective_backward.h"

namespace krait::kernels::reference {

// `state` [N, E] is h before the first row. Rows are those of the sequence.
void selective_scan_backward(const SelectiveScanOf<double>& scan, const SelectiveScanInputsOf<double>& in,
                             std::span<const double> state, Rows<const double> dy,
                             const SequenceGradientsOf<double>& states,
                             const SelectiveScanGradientsOf<double>& gradients, Terms terms = Terms::kSigned);

}  // namespace krait::kernels::reference
