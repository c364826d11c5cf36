// From the parameters of S4's kernel to the coefficients of its Cauchy sums, from those sums to the spectrum, and both
// ways back: what surrounds the sums over states, for the kernel and its oracle alike. By itself it is checked by
// stepping and by differences of the loss.
//
// Sums q(u, v) are numbered u (1 + rank) + v: u is C~ of one copy after the other, then P* of each rank; v is B, then
// P.
#pragma once

#include <complex>
#include <span>
#include <vector>

#include "krait/kernels/s4_kernel_backward.h"

namespace krait::kernels {

struct S4Channel {
  double dt = 0.0;
  std::vector<std::complex<double>> lambda, mu;  // mu = dt lambda
  std::vector<std::complex<double>> left;        // [copies + rank, M]
  std::vector<std::complex<double>> right;       // [1 + rank, M]
  std::vector<std::complex<double>> products;    // [M, (copies + rank)(1 + rank)]: dt left right
};
template <class T>
void prepare_s4_channel(const S4KernelOf<T>& parameters, std::int64_t h, S4Channel& channel);

// Of all channels, before those of one set are summed: [H, M], P's [rank, H, M], and log dt's [H].
struct S4Sums {
  std::vector<std::complex<double>> lambda, b, p;
  std::vector<double> log_dt;
  S4Sums(std::int64_t channels, std::int64_t states, std::int64_t rank);
};

// Takes gradients by `products` and `mu` of one channel to its parameters': C's at once, the others into `sums`.
template <class T>
void add_s4_channel(const S4KernelOf<T>& parameters, std::int64_t h, const S4Channel& channel,
                    std::span<const std::complex<double>> products, std::span<const std::complex<double>> mu,
                    S4Sums& sums, const S4KernelGradientsOf<T>& gradients);
// Adds up the sets, channel by channel.
template <class T>
void add_s4_sums(const S4KernelOf<T>& parameters, const S4Sums& sums, const S4KernelGradientsOf<T>& gradients);

template <class T>
void check_s4(const S4KernelOf<T>& parameters, std::int64_t kernel_rows);

// One node: the spectrum of each copy from the sums q, and gradients of q from those of the spectrum. u and c as in
// cauchy.h; the turn by half the angle is c + i u / 2.
struct S4Node {
  std::int64_t copies, rank;
  double u, c;
};
void s4_spectrum(const S4Node& node, const std::complex<double>* q, std::complex<double>* spectrum);
void s4_spectrum_backward(const S4Node& node, const std::complex<double>* q, const std::complex<double>* dspectrum,
                          std::complex<double>* dq);

}  // namespace krait::kernels
