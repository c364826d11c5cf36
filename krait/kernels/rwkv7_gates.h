// The elementwise steps of RWKV-7's time mixing (Peng et al. 2025) before and after its recurrence (scan_rwkv7.h).
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

struct Rwkv7Gates {
  std::int64_t heads = 0;      // H; C = H*P
  const float* w0 = nullptr;   // [C], as all of them
  const float* a0 = nullptr;   //
  const float* k_k = nullptr;  //
  const float* k_a = nullptr;  //
};

// From the outputs of the low-rank maps and the key, all [M, C], in place:
//   w <- exp(-e^(-1/2) sigmoid(w0 + w)), the decay, in (0.545, 1)
//   a' = sigmoid(a0 + a), the in-context learning rate
//   kappa = k k_k / max(|k k_k|, 1e-12), the norm over each head
//   k <- k (1 + (a' - 1) k_a),   a <- a' kappa
void rwkv7_gates(ThreadPool& pool, const Rwkv7Gates& gates, RowsOut w, RowsOut a, RowsOut k, RowsOut kappa);

// v <- v + (first - v) sigmoid(v0 + mix): the value of the first layer, mixed in. All [M, C], v0 [C].
void rwkv7_value_residual(ThreadPool& pool, const float* v0, RowsIn mix, RowsIn first, RowsOut v);

// y <- (y + (sum over the head of r k r_k) v) g: the bonus of the current token and the gate. All [M, C], r_k [C].
void rwkv7_bonus_gate(ThreadPool& pool, std::int64_t heads, const float* r_k, RowsIn r, RowsIn k, RowsIn v, RowsIn g,
                      RowsOut y);

}  // namespace krait::kernels
