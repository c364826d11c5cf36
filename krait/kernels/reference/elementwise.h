// Oracle: scalar functions, norms and the causal convolution as plain loops in double. Slow on purpose.
#pragma once

#include <span>

#include "krait/kernels/conv1d_causal.h"
#include "krait/kernels/norm.h"
#include "krait/kernels/rows.h"

namespace krait::kernels::reference {

using RowsDouble = Rows<double>;

double silu(double x);
double softplus(double x);  // x itself above 20
// Their derivatives.
double silu_slope(double x);
double softplus_slope(double x);

void rms_norm(RowsIn x, const float* weight, double epsilon, RowsDouble y);
void gated_rms_norm(RowsIn x, RowsIn gate, const float* weight, double epsilon, std::int64_t groups, GateOrder order,
                    RowsDouble y);

// One sequence; window [K-1, C].
void conv1d_causal(const Conv1dCausal& conv, RowsIn x, std::span<double> window, RowsDouble y);

}  // namespace krait::kernels::reference
