// State-space duality scan of Mamba-2 (Dao & Gu 2024): one decay per head and step, states N x P per head.
//   dt = clamp(softplus(dt_raw[t, h] + dt_bias[h]), dt_low, dt_high),   a = exp(dt A[h])
//   S[n, p] = a S[n, p] + dt B[t, n] x[t, h, p]
//   y[t, h, p] = sum_n C[t, n] S[n, p] + D x[t, h, p]
// Sequences of several rows run in the paper's chunked matrix form (chunk Q, cum_i = sum_{j<=i} dt_j A):
//   Y = ((C B^T) o exp(cum_i - cum_j) [j <= i]) (dt X) + exp(cum_i) C S_prev,
//   S = exp(cum_Q) S_prev + sum_j exp(cum_Q - cum_j) dt_j B_j x_j^T;
// single rows run as the plain recurrence. Both read the state once and write it once per chunk.
// Head h uses B and C of group h / (H / G). States stand as [H, N, P]: P is contiguous and vectorised over, so no
// sum runs across a vector.
#pragma once

#include <limits>
#include <span>

#include "krait/core/dtype.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// Real is float, and double for the oracle.
template <class Real>
struct SsdScanOf {
  std::int64_t heads = 0;       // H
  std::int64_t head_width = 0;  // P
  std::int64_t states = 0;      // N
  std::int64_t groups = 1;      // G, H % G == 0
  std::int64_t chunk = 64;      // Q; rounding apart, the result does not depend on it
  const Real* a = nullptr;      // [H], negative: -exp(A_log)
  const Real* d = nullptr;      // [H], or [H*P] when d_per_channel, or null
  bool d_per_channel = false;
  const Real* dt_bias = nullptr;  // [H] or null
  Real dt_low = 0;                // limits after the softplus
  Real dt_high = std::numeric_limits<Real>::infinity();
  DType state_dtype = DType::kF32;  // or bf16 or int8, as state_storage.h has them: rows of P values, [H, N] of them
};
using SsdScan = SsdScanOf<float>;

// x, y [M, H*P]; dt [M, H] (raw); b, c [M, G*N]. y must not overlap x.
// Each sequence's state [H, N, P] is read as S before its first row and left as S after its last.
// For training, `borders` takes the states before every chunk of a sequence, the first included, in f32:
// [chunks, H, N, P] of the first sequence, then of the next; ssd_chunk_count() of them. Null: none are written.
std::int64_t ssd_chunk_count(std::int64_t chunk, std::span<const SequenceRows> sequences);
void ssd_scan(ThreadPool& pool, const SsdScan& scan, RowsIn x, RowsIn dt, RowsIn b, RowsIn c,
              std::span<const SequenceRows> sequences, RowsOut y, float* borders = nullptr);

}  // namespace krait::kernels
