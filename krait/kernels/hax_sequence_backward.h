// Backward of hax_sequence.h. With p[t, j] the softmax of row t and u[j] = sum_t p[t, j] dy[t] over the rows that read
// j,
//   dv[j] = E * u[j],   dE = sum_j v[j] * u[j]
//   ds[t, j] = p[t, j] (g[t, j] - sum_i p[t, i] g[t, i]),   g[t, j] = (E * dy[t]) . v[j]
//   dq[t] = sum_j ds[t, j] k[j],   dk[j] = sum_t ds[t, j] q[t]
#pragma once

#include "krait/kernels/hax_sequence.h"

namespace krait::kernels {

template <class T>
struct HaxSequenceGradients {
  Rows<T> q, k, v;            // written for the rows of the sequences
  T* output_scale = nullptr;  // [E], added to; may be null
};

// y_gradient [M, E]. The gradients must not overlap what is read. The gradient of y before the call is y_gradient.
void hax_sequence_backward(ThreadPool& pool, const HaxReads<float>& in, std::span<const SequenceRows> sequences,
                           RowsIn y_gradient, const HaxSequenceGradients<float>& gradients);

}  // namespace krait::kernels
