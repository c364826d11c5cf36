// Oracle: gradients of ssd_scan as the recurrence backwards, one sequence at a time, all in double. The forward pass in
// double is in scan.h. This is also how training runs in double.
#pragma once

#include "krait/kernels/reference/magnitude.h"
#include "krait/kernels/reference/scan.h"
#include "krait/kernels/scan_ssd_backward.h"

namespace krait::kernels::reference {

// `state` [H, N, P] is S before the first row. Rows are those of the sequence.
void ssd_scan_backward(const SsdScanOf<double>& scan, const SsdScanInputsOf<double>& in, std::span<const double> state,
                       Rows<const double> dy, const SequenceGradientsOf<double>& states,
                       const SsdScanGradientsOf<double>& gradients, Terms terms = Terms::kSigned);

}  // namespace krait::kernels::reference
