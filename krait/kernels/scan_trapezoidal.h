// The scan of Mamba-3 (arXiv 2603.15569): a trapezoidal rule for the input, a data-dependent rotation of the states,
// and R inputs and outputs a head and step (R = 1: SISO, R > 1: MIMO). For head h and row t, with k_r, q_r in R^N, v_r
// in R^P:
//   dt = softplus(dt_raw + dt_bias),  A = -max(f(a_raw), decay_floor),  f(u) = 1 + u for u >= 0, else 1 / (1 - u)
//   l = sigmoid(trap),  alpha = exp(A dt),  beta = (1 - l) dt alpha,  gamma = l dt
//   theta += pi tanh(angle) dt                                  (kept in [-pi, pi])
//   k_r = Rot(theta)(rms(B_r) b_norm + b_bias[h, r]),   q_r = Rot(theta)(rms(C_r) c_norm + c_bias[h, r])
//   v_r = x o value_mix[h, r]
//   S = alpha S + beta sum_r k_r,prev v_r,prev^T + gamma sum_r k_r v_r^T
//   y = sum_r out_mix[h, r] o g(S^T q_r + D v_r) o silu(z o gate_mix[h, r]),   g: the identity, or rms over P times
//   norm
// Rot turns n_angles pairs of entries: (2i, 2i + 1), or with halves (i, i + N / 2).
// Sequences of several rows run in a chunked matrix form: since the beta of a step belongs to the input before it, what
// row j adds to a later state of the chunk is (gamma_j + (1 - l_{j+1}) dt_{j+1}) k_j v_j^T, decayed by the alphas of
// j + 1 …; the last row's beta is added by whoever comes next. Single rows run as the plain recurrence.
// Head h uses B and C of group h / (H / G).
#pragma once

#include <algorithm>
#include <span>

#include "krait/core/dtype.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// T is float; double for the plain loops (reference/scan_trapezoidal.h).
template <class T>
struct TrapezoidalScanOf {
  std::int64_t heads = 0;       // H
  std::int64_t head_width = 0;  // P
  std::int64_t states = 0;      // N, even
  std::int64_t groups = 1;      // G, H % G == 0
  std::int64_t rank = 1;        // R
  std::int64_t angles = 0;      // at most N / 2
  bool halves = false;          // which entries make a pair
  std::int64_t chunk = 64;      // rows times R of a chunk; rounding apart, the result does not depend on it
  T decay_floor = static_cast<T>(1e-4);
  T epsilon = static_cast<T>(1e-5);  // of the norms
  const T* dt_bias = nullptr;        // [H]
  const T* b_norm = nullptr;         // [N]
  const T* c_norm = nullptr;         // [N]
  const T* b_bias = nullptr;         // [H, R, N]
  const T* c_bias = nullptr;         // [H, R, N]
  const T* d = nullptr;              // [H]
  const T* value_mix = nullptr;      // [H, R, P], or null (ones), as are the next two
  const T* gate_mix = nullptr;
  const T* out_mix = nullptr;
  const T* norm = nullptr;          // [H, P], or null: no norm before the gate
  DType state_dtype = DType::kF32;  // of S alone; or bf16 or int8 (state_storage.h), rows of P values, [H, N] of them
  // Where the rest of a sequence's state stands, in bytes from S [H, N, P]; all of T.
  std::int64_t angle_offset = 0;  // theta [H, angles]
  std::int64_t key_offset = 0;    // the last row's k [H, R, N]
  std::int64_t value_offset = 0;  // and x [H, P]

  std::int64_t chunk_rows() const { return std::max<std::int64_t>(1, chunk / rank); }
};
using TrapezoidalScan = TrapezoidalScanOf<float>;

template <class T>
struct TrapezoidalInputsOf {
  Rows<const T> x, z;         // [M, H*P]
  Rows<const T> b, c;         // [M, R*G*N]
  Rows<const T> dt, a, trap;  // [M, H], raw
  Rows<const T> angle;        // [M, angles], raw, the same for all heads
};
using TrapezoidalInputs = TrapezoidalInputsOf<float>;

// For trapezoidal_scan_backward. At the start of each chunk of each head: S, with the beta of the chunk's first row
// already added (but not decayed), and theta.
struct TrapezoidalSaved {
  float* s = nullptr;      // [saved_chunks_of(sequences, chunk_rows()), H, N, P] (saved_chunks.h)
  float* angle = nullptr;  // [the same, H, angles]
};

// y [M, H*P] must not overlap the inputs. Each sequence's state is read as it was before its first row and left as it
// is after its last. saved: or null.
void trapezoidal_scan(ThreadPool& pool, const TrapezoidalScan& scan, const TrapezoidalInputs& in,
                      std::span<const SequenceRows> sequences, RowsOut y, const TrapezoidalSaved* saved = nullptr);

}  // namespace krait::kernels
