// Oracle: trapezoidal_scan as its recurrence, one sequence at a time, in double, and beside every number a magnitude:
// the same sums over absolute values, which the errors of any way to compute them are measured against.
#pragma once

#include <vector>

#include "krait/kernels/reference/elementwise.h"
#include "krait/kernels/scan_trapezoidal.h"

namespace krait::kernels::reference {

struct TrapezoidalState {
  std::vector<double> angle, state, key, value;  // [H, angles], [H, N, P], [H, R, N], [H, P]
  std::vector<double> state_magnitude, key_magnitude;

  explicit TrapezoidalState(const TrapezoidalScan& scan);  // zero
};

void trapezoidal_scan(const TrapezoidalScan& scan, const TrapezoidalInputs& in, TrapezoidalState& state, RowsDouble y,
                      RowsDouble magnitude);

}  // namespace krait::kernels::reference
