// From the parameters of S4D's kernel to its discrete states in double, and back: what surrounds the sums over l, for
// the kernel and its oracle alike. By itself it is checked by differences of the loss and by stepping.
#pragma once

#include <complex>
#include <span>
#include <vector>

#include "krait/kernels/s4d_kernel_backward.h"

namespace krait::kernels {

// One channel: its states, and the weights w = C B weight of its kernels, [R, M].
struct S4dChannel {
  std::vector<std::complex<double>> a, z;
  std::vector<double> dt;
  std::vector<DiscreteState> discrete;
  std::vector<std::complex<double>> weights;
};
template <class T>
void prepare_s4d_channel(const S4dKernelOf<T>& parameters, std::int64_t h, S4dChannel& channel);

// Of all channels, before those of one set are summed: gradients by A and B [H, M], and by log dt [H, M].
struct S4dSums {
  explicit S4dSums(std::int64_t entries) : a(static_cast<std::size_t>(entries)), b(a.size()), log_dt(a.size()) {}
  std::vector<std::complex<double>> a, b;
  std::vector<double> log_dt;
};

// Takes the moments of a channel's kernels, [R, M] each, to the gradients: C's at once, the others into `sums`.
template <class T>
void add_s4d_moments(const S4dKernelOf<T>& parameters, std::int64_t h, const S4dChannel& channel,
                     std::span<const std::complex<double>> zeroth, std::span<const std::complex<double>> first,
                     S4dSums& sums, const S4dKernelGradientsOf<T>& gradients);
// Adds up the sets, channel by channel.
template <class T>
void add_s4d_sums(const S4dKernelOf<T>& parameters, const S4dSums& sums, const S4dKernelGradientsOf<T>& gradients);

template <class T>
void check_s4d(const S4dKernelOf<T>& parameters, std::int64_t kernel_rows);

}  // namespace krait::kernels
