// Gradients of layer and group normalisation (layer_norm.h). With n = (x - mean(x)) / sqrt(variance + epsilon), r the
// inverse of that root, g = dy weight, and means over the group:
//   dx = r (g - mean(g) - n mean(g n)),   dweight = sum over rows of dy n,   dbias = sum over rows of dy
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/layer_norm.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

template <class Real>
struct LayerNormGradientsOf {
  Rows<Real> x;            // [M, D], written; may stand in the place of x or dy
  Real* weight = nullptr;  // [D], added to; null: not wanted
  Real* bias = nullptr;    // [D], added to; null: not wanted
};
using LayerNormGradients = LayerNormGradientsOf<float>;

// x, dy [M, D].
void layer_norm_backward(ThreadPool& pool, const LayerNorm& norm, RowsIn x, RowsIn dy,
                         const LayerNormGradients& gradients);

}  // namespace krait::kernels
