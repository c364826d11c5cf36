#include "krait/kernels/s4d_states.h"

#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/complex_pairs.h"

namespace krait::kernels {
namespace {

using Complex = std::complex<double>;

template <class T>
Complex input_of(const S4dKernelOf<T>& p, std::int64_t h, std::int64_t n) {
  return p.b == nullptr ? Complex(1.0) : complex_at(p.b, h % p.sets * p.states + n);
}
std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

}  // namespace

template <class T>
void check_s4d(const S4dKernelOf<T>& p, std::int64_t kernel_rows) {
  KRAIT_CHECK(p.channels >= 0 && p.states >= 1 && p.copies >= 1, "{} channels, {} states, {} copies", p.channels,
              p.states, p.copies);
  KRAIT_CHECK(p.sets >= 1 && p.channels % p.sets == 0, "{} sets for {} channels", p.sets, p.channels);
  KRAIT_CHECK_EQ(kernel_rows, p.copies * p.channels);
}

template <class T>
void prepare_s4d_channel(const S4dKernelOf<T>& p, std::int64_t h, S4dChannel& channel) {
  channel.a.clear(), channel.z.clear(), channel.dt.clear(), channel.discrete.clear(), channel.weights.clear();
  for (std::int64_t n = 0; n < p.states; ++n) {
    const std::int64_t entry = h % p.sets * p.states + n;
    if (n == 0 || p.dt_per_state) {
      channel.dt.push_back(p.rate * std::exp(static_cast<double>(p.log_dt[p.dt_per_state ? h * p.states + n : h])));
    } else {
      channel.dt.push_back(channel.dt.back());
    }
    channel.a.emplace_back(-std::exp(static_cast<double>(p.log_decay[entry])), static_cast<double>(p.frequency[entry]));
    channel.discrete.push_back(discretise(p.method, channel.dt.back(), channel.a.back()));
    channel.z.push_back(channel.discrete.back().z);
  }
  for (std::int64_t r = 0; r < p.copies; ++r) {
    for (std::int64_t n = 0; n < p.states; ++n) {
      channel.weights.push_back(complex_at(p.c, (r * p.channels + h) * p.states + n) * input_of(p, h, n) *
                                channel.discrete[at(n)].weight);
    }
  }
}

template <class T>
void add_s4d_moments(const S4dKernelOf<T>& p, std::int64_t h, const S4dChannel& channel,
                     std::span<const Complex> zeroth, std::span<const Complex> first, S4dSums& sums,
                     const S4dKernelGradientsOf<T>& gradients) {
  for (std::int64_t n = 0; n < p.states; ++n) {
    const DiscreteState& discrete = channel.discrete[at(n)];
    const Complex b = input_of(p, h, n);
    Complex by_z = 0.0, by_weight = 0.0, by_b = 0.0;
    for (std::int64_t r = 0; r < p.copies; ++r) {
      const std::size_t moment = at(r * p.states + n);
      const std::int64_t entry = (r * p.channels + h) * p.states + n;
      const Complex c = complex_at(p.c, entry), by_w = 2.0 * std::conj(zeroth[moment]);
      by_z += 2.0 * std::conj(channel.weights[moment] * first[moment]);
      by_weight += std::conj(c * b) * by_w;
      by_b += std::conj(c * discrete.weight) * by_w;
      if (gradients.c != nullptr) add_complex(gradients.c, entry, std::conj(b * discrete.weight) * by_w);
    }
    const Complex by_s = std::conj(discrete.z_by_s) * by_z + std::conj(discrete.weight_by_s) * by_weight;
    const double dt = channel.dt[at(n)];
    const std::size_t sum = at(h * p.states + n);
    sums.a[sum] = dt * by_s;
    sums.b[sum] = by_b;
    sums.log_dt[sum] = dt * (std::conj(channel.a[at(n)]) * by_s + std::conj(discrete.weight_by_dt) * by_weight).real();
  }
}

template <class T>
void add_s4d_sums(const S4dKernelOf<T>& p, const S4dSums& sums, const S4dKernelGradientsOf<T>& gradients) {
  for (std::int64_t entry = 0; entry < p.sets * p.states; ++entry) {
    Complex a = 0.0, b = 0.0;
    for (std::int64_t h = entry / p.states; h < p.channels; h += p.sets) {
      a += sums.a[at(h * p.states + entry % p.states)];
      b += sums.b[at(h * p.states + entry % p.states)];
    }
    if (gradients.log_decay != nullptr) {
      gradients.log_decay[entry] += static_cast<T>(-std::exp(static_cast<double>(p.log_decay[entry])) * a.real());
    }
    if (gradients.frequency != nullptr) gradients.frequency[entry] += static_cast<T>(a.imag());
    if (gradients.b != nullptr) add_complex(gradients.b, entry, b);
  }
  if (gradients.log_dt == nullptr) return;
  for (std::int64_t h = 0; h < p.channels; ++h) {
    double channel = 0.0;
    for (std::int64_t n = 0; n < p.states; ++n) {
      const double one = sums.log_dt[at(h * p.states + n)];
      if (p.dt_per_state) gradients.log_dt[h * p.states + n] += static_cast<T>(one);
      channel += one;
    }
    if (!p.dt_per_state) gradients.log_dt[h] += static_cast<T>(channel);
  }
}

template void check_s4d(const S4dKernelOf<float>&, std::int64_t);
template void check_s4d(const S4dKernelOf<double>&, std::int64_t);
template void prepare_s4d_channel(const S4dKernelOf<float>&, std::int64_t, S4dChannel&);
template void prepare_s4d_channel(const S4dKernelOf<double>&, std::int64_t, S4dChannel&);
template void add_s4d_moments(const S4dKernelOf<float>&, std::int64_t, const S4dChannel&, std::span<const Complex>,
                              std::span<const Complex>, S4dSums&, const S4dKernelGradientsOf<float>&);
template void add_s4d_moments(const S4dKernelOf<double>&, std::int64_t, const S4dChannel&, std::span<const Complex>,
                              std::span<const Complex>, S4dSums&, const S4dKernelGradientsOf<double>&);
template void add_s4d_sums(const S4dKernelOf<float>&, const S4dSums&, const S4dKernelGradientsOf<float>&);
template void add_s4d_sums(const S4dKernelOf<double>&, const S4dSums&, const S4dKernelGradientsOf<double>&);

}  // namespace krait::kernels
