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

  template <class T>
  explicit TrapezoidalState(const TrapezoidalScanOf<T>& scan)  // zero
      : angle(static_cast<std::size_t>(scan.heads * scan.angles)),
        state(static_cast<std::size_t>(scan.heads * scan.states * scan.head_width)),
        key(static_cast<std::size_t>(scan.heads * scan.rank * scan.states)),
        value(static_cast<std::size_t>(scan.heads * scan.head_width)),
        state_magnitude(state.size()),
        key_magnitude(key.size()) {}
};

// T is float or double; theta is not kept within a turn. magnitude may be empty: not wanted.
template <class T>
void trapezoidal_scan(const TrapezoidalScanOf<T>& scan, const TrapezoidalInputsOf<T>& in, TrapezoidalState& state,
                      RowsDouble y, RowsDouble magnitude);

}  // namespace krait::kernels::reference
