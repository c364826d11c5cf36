// Root-mean-square norms over the last dimension (Zhang & Sennrich 2019), statistics in f32.
//   rms(x) = x / sqrt(mean(x^2) + epsilon),  epsilon inside the root
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// y[M, D] = rms(x[M, D]) * weight[D]; weight may be null (FalconMamba's inner norms). y may be x.
void rms_norm(ThreadPool& pool, RowsIn x, const float* weight, float epsilon, RowsOut y);

// residual += delta, then y = rms(residual) * weight: the residual add of one block fused with the norm of the next.
void add_rms_norm(ThreadPool& pool, RowsOut residual, RowsIn delta, const float* weight, float epsilon, RowsOut y);

enum class GateOrder {
  kGateThenNorm,  // rms(x * silu(gate)) * weight      (Mamba-2's norm_before_gate = false)
  kNormThenGate,  // rms(x) * weight * silu(gate)      (norm_before_gate = true)
};

// The gated norm of Mamba-2. D is cut into `groups` equal parts with statistics of their own; D % groups == 0.
// y may be x.
void gated_rms_norm(ThreadPool& pool, RowsIn x, RowsIn gate, const float* weight, float epsilon, std::int64_t groups,
                    GateOrder order, RowsOut y);

}  // namespace krait::kernels
