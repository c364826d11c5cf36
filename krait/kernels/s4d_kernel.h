// The convolution kernel of a diagonal time-invariant model, S4D (Gu, Gupta, Goel & Ré 2022): of channel h
//   A[n] = -exp(log_decay[n]) + i frequency[n],   dt = rate exp(log_dt),
//   K[h, l] = 2 Re sum_n C[h, n] B[n] weight[n] z[n]^l,   l = 0 … L-1,
// with z and weight of (dt, A) as diagonal_discretisation.h has them. The states kept are one of each conjugate pair, M
// of N = 2 M, hence 2 Re. Applied by long_convolution.h; the same model stepwise is the oracle of
// reference/s4d_kernel.h.
//
// O(M L) work, O(M sqrt(L)) scratch a thread. Powers of z are taken in double and rounded once, so the error does not
// grow with l nor with the angle l |Im dt A|: it is at most (2 M + 4) roundings of sum_n 2 sqrt(2) |w| |z|^l, w = C B
// weight.
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/diagonal_discretisation.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// Complex numbers stand as pairs, real part first.
template <class T>
struct S4dKernelOf {
  std::int64_t channels = 0;  // H
  std::int64_t states = 0;    // M
  std::int64_t sets = 1;      // S: channel h has A and B of set h % S (checkpoints of S4 tie them so)
  std::int64_t copies = 1;    // R kernels of a channel, which differ in C
  Discretisation method = Discretisation::kZeroOrderHold;
  double rate = 1.0;             // 2: the signal comes half as often as in training
  bool dt_per_state = false;     // log_dt is [H, M]
  const T* log_dt = nullptr;     // [H]
  const T* log_decay = nullptr;  // [S, M]
  const T* frequency = nullptr;  // [S, M]
  const T* b = nullptr;          // [S, M] complex, or null: all 1
  const T* c = nullptr;          // [R, H, M] complex
};
using S4dKernel = S4dKernelOf<float>;

// kernel [R * H, L], row r H + h.
void s4d_kernel(ThreadPool& pool, const S4dKernel& parameters, RowsOut kernel);

}  // namespace krait::kernels
