// Oracle: the scans as their recurrences, one sequence at a time, in double. Layouts as in the kernels' headers.
#pragma once

#include <span>
#include <type_traits>

#include "krait/kernels/reference/elementwise.h"
#include "krait/kernels/scan_selective.h"
#include "krait/kernels/scan_ssd.h"

namespace krait::kernels::reference {

// Rows of inputs in the precision of the scan's parameters, float or double.
template <class Real>
using RowsOf = std::type_identity_t<Rows<const Real>>;

template <class Real>
void selective_scan(const SelectiveScanOf<Real>& scan, RowsOf<Real> x, RowsOf<Real> dt, RowsOf<Real> b, RowsOf<Real> c,
                    RowsOf<Real> z, std::span<double> state, RowsDouble y);

template <class Real>
void ssd_scan(const SsdScanOf<Real>& scan, RowsOf<Real> x, RowsOf<Real> dt, RowsOf<Real> b, RowsOf<Real> c,
              std::span<double> state, RowsDouble y);

}  // namespace krait::kernels::reference
