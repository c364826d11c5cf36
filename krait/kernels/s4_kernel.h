// The convolution kernel of S4 (Gu, Goel & Ré 2022): a diagonal matrix less one of low rank, bilinear step,
//   A = Lambda - P P^*,  Lambda[n] = -exp(log_decay[n]) + i frequency[n],  dt = rate exp(log_dt),
//   Abar = (1 - dt A / 2)^-1 (1 + dt A / 2),  Bbar = (1 - dt A / 2)^-1 dt B,   K[l] = C Abar^l Bbar,  l = 0 … L-1,
// over N = 2 M states in conjugate pairs of which the first halves are kept, so that K is real. Given is not C but
// C~ = C (1 - Abar^L) (s4_output.h), for which the spectrum of K at w = e^(-i a), a = 2 pi k / L, has no power in it:
//   K^(w) = C~ (1 - w Abar)^-1 Bbar = e^(ia/2) [ q(C~,B) - c q(C~,P) (1 + c q(P*,P))^-1 q(P*,B) ],
//   q(u,v) = dt sum_n u[n] v[n] / (2 i s - c dt Lambda[n]) + the conjugate states' share,  s, c = sin, cos (a / 2):
// Woodbury's identity on Cauchy sums, written so that w = -1 needs no limit. K is the inverse transform.
//
// All inside is double: near a pole of Lambda the bracket cancels what f32 cannot afford (FouT's zero eigenvalue). So
// K is right to f32's rounding wherever the parameters determine it. O(M L) work a channel, O(L) scratch.
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// Complex numbers stand as pairs, real part first.
template <class T>
struct S4KernelOf {
  std::int64_t channels = 0;     // H
  std::int64_t states = 0;       // M
  std::int64_t sets = 1;         // S: channel h has Lambda, P and B of set h % S
  std::int64_t copies = 1;       // kernels of a channel, which differ in C
  std::int64_t rank = 1;         // of P: 0, 1 or 2
  double rate = 1.0;             // 2: the signal comes half as often as in training
  const T* log_dt = nullptr;     // [H]
  const T* log_decay = nullptr;  // [S, M]
  const T* frequency = nullptr;  // [S, M]
  const T* p = nullptr;          // [rank, S, M] complex
  const T* b = nullptr;          // [S, M] complex
  const T* c = nullptr;          // [copies, H, M] complex: C~ for the kernel's length
};
using S4Kernel = S4KernelOf<float>;

// kernel [copies * H, L], row r H + h; L is the one that C~ was made for.
void s4_kernel(ThreadPool& pool, const S4Kernel& parameters, RowsOut kernel);

}  // namespace krait::kernels
