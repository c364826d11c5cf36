// Oracle: the scans as their recurrences, one sequence at a time, in double. Layouts as in the kernels' headers.
#pragma once

#include <span>

#include "krait/kernels/reference/elementwise.h"
#include "krait/kernels/scan_selective.h"
#include "krait/kernels/scan_ssd.h"

namespace krait::kernels::reference {

void selective_scan(const SelectiveScan& scan, RowsIn x, RowsIn dt, RowsIn b, RowsIn c, RowsIn z,
                    std::span<double> state, RowsDouble y);

void ssd_scan(const SsdScan& scan, RowsIn x, RowsIn dt, RowsIn b, RowsIn c, std::span<double> state, RowsDouble y);

}  // namespace krait::kernels::reference
