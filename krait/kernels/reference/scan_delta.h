// Oracle: the gated delta rule as plain loops in double. Layouts as in the kernel's header.
#pragma once

#include <span>

#include "krait/kernels/reference/elementwise.h"
#include "krait/kernels/scan_delta.h"

namespace krait::kernels::reference {

// One sequence. T is float or double.
template <class T>
void delta_scan(const DeltaScanOf<T>& scan, const DeltaScanInputsOf<T>& in, std::span<double> state, RowsDouble o);

}  // namespace krait::kernels::reference
