// Oracle: gradients of the norms as plain loops in double. The forward passes in double are in elementwise.h and
// rwkv7.h. This is also how training runs in double.
#pragma once

#include "krait/kernels/layer_norm_backward.h"
#include "krait/kernels/norm_backward.h"

namespace krait::kernels::reference {

// `dresidual` is empty but for add_rms_norm.
void rms_norm_backward(Rows<const double> x, const double* weight, double epsilon, Rows<const double> dy,
                       Rows<const double> dresidual, const RmsNormGradientsOf<double>& gradients);

void gated_rms_norm_backward(Rows<const double> x, Rows<const double> gate, const double* weight, double epsilon,
                             std::int64_t groups, GateOrder order, Rows<const double> dy,
                             const GatedRmsNormGradientsOf<double>& gradients);

void layer_norm_backward(const LayerNormOf<double>& norm, Rows<const double> x, Rows<const double> dy,
                         const LayerNormGradientsOf<double>& gradients);

}  // namespace krait::kernels::reference
