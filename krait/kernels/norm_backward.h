// Gradients of the root-mean-square norms (norm.h). With r = 1 / sqrt(mean(x^2) + epsilon) and g = dy weight:
//   dx = r (g - x r^2 mean(g x)),   dweight = sum over rows of dy x r
// Statistics are computed again from x. Sums over rows are cut by the shape alone.
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/norm.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

template <class Real>
struct RmsNormGradientsOf {
  Rows<Real> x;            // [M, D], written; may stand in the place of x or dy
  Real* weight = nullptr;  // [D], added to; null: not wanted
};
using RmsNormGradients = RmsNormGradientsOf<float>;

// x, dy [M, D].
void rms_norm_backward(ThreadPool& pool, RowsIn x, const float* weight, float epsilon, RowsIn dy,
                       const RmsNormGradients& gradients);

// Of add_rms_norm. `residual` is the sum that it left, `dresidual` [M, D] what flows back into that sum from further
// on: the gradient of x, here of the sum and so of both that were added, is dresidual + the norm's. It may stand in the
// place of dresidual.
void add_rms_norm_backward(ThreadPool& pool, RowsIn residual, const float* weight, float epsilon, RowsIn dy,
                           RowsIn dresidual, const RmsNormGradients& gradients);

template <class Real>
struct GatedRmsNormGradientsOf {
  Rows<Real> x;            // [M, D], written; may stand in the place of x or dy
  Rows<Real> gate;         // [M, D], written; may stand in the place of gate
  Real* weight = nullptr;  // [D], added to; null: not wanted
};
using GatedRmsNormGradients = GatedRmsNormGradientsOf<float>;

// x, gate, dy [M, D].
void gated_rms_norm_backward(ThreadPool& pool, RowsIn x, RowsIn gate, const float* weight, float epsilon,
                             std::int64_t groups, GateOrder order, RowsIn dy, const GatedRmsNormGradients& gradients);

}  // namespace krait::kernels
