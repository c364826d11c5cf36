// Layer normalisation (Ba, Kiros & Hinton 2016) and, with several groups, group normalisation (Wu & He 2018) over the
// last dimension, statistics in f32.
//   y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * weight + bias,  epsilon inside the root
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

struct LayerNorm {
  const float* weight = nullptr;  // [D] or null
  const float* bias = nullptr;    // [D] or null
  float epsilon = 1e-5F;
  std::int64_t groups = 1;  // equal parts of D with statistics of their own; D % groups == 0
};

// x, y [M, D]. y may be x.
void layer_norm(ThreadPool& pool, const LayerNorm& norm, RowsIn x, RowsOut y);

}  // namespace krait::kernels
