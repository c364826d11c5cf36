// Oracle: scalar functions, norms and the causal convolution as plain loops in double. Slow on purpose.
#pragma once

#include <span>
#include <type_traits>

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

// Inputs and parameters in float or double, whichever x is.
template <class Real>
void rms_norm(Rows<const Real> x, const std::type_identity_t<Real>* weight, double epsilon, RowsDouble y);
template <class Real>
void gated_rms_norm(Rows<const Real> x, std::type_identity_t<Rows<const Real>> gate,
                    const std::type_identity_t<Real>* weight, double epsilon, std::int64_t groups, GateOrder order,
                    RowsDouble y);

// One sequence; window [K-1, C].
template <class Real>
void conv1d_causal(const Conv1dCausalOf<Real>& conv, std::type_identity_t<Rows<const Real>> x, std::span<double> window,
                   RowsDouble y);

}  // namespace krait::kernels::reference
