// Layer normalisation (Ba, Kiros & Hinton 2016) and, with several groups, group normalisation (Wu & He 2018) over the
// last dimension, statistics in f32.
//   y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * weight + bias,  epsilon inside the root
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

template <class Real>
struct LayerNormOf {
  const Real* weight = nullptr;  // [D] or null
  const Real* bias = nullptr;    // [D] or null
  Real epsilon = static_cast<Real>(1e-5);
  std::int64_t groups = 1;  // equal parts of D with statistics of their own; D % groups == 0
};
using LayerNorm = LayerNormOf<float>;

// x, y [M, D]. y may be x.
void layer_norm(ThreadPool& pool, const LayerNorm& norm, RowsIn x, RowsOut y);

}  // namespace krait::kernels
