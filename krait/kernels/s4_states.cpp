#include "krait/kernels/s4_states.h"

#include <array>
#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/complex_pairs.h"

namespace krait::kernels {
namespace {

using Complex = std::complex<double>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// W = 1 + c q(P*, P), inverted by its adjugate.
struct Correction {
  std::int64_t rank;
  std::array<std::array<Complex, 2>, 2> inverse = {};

  Correction(const S4Node& node, const Complex* q) : rank(node.rank) {
    const auto w = [&](std::int64_t s, std::int64_t r) {
      return (s == r ? 1.0 : 0.0) + node.c * q[(node.copies + s) * (1 + rank) + 1 + r];
    };
    if (rank == 1) inverse[0][0] = 1.0 / w(0, 0);
    if (rank != 2) return;
    const Complex scale = 1.0 / (w(0, 0) * w(1, 1) - w(0, 1) * w(1, 0));
    inverse = {{{scale * w(1, 1), -scale * w(0, 1)}, {-scale * w(1, 0), scale * w(0, 0)}}};
  }
  // W^-1 u with u = q(P*, B), and v^T W^-1 with v = q(C~, P) of one copy.
  std::array<Complex, 2> solve_input(const S4Node& node, const Complex* q) const {
    std::array<Complex, 2> x = {};
    for (std::int64_t r = 0; r < rank; ++r) {
      for (std::int64_t s = 0; s < rank; ++s) x[at(r)] += inverse[at(r)][at(s)] * q[(node.copies + s) * (1 + rank)];
    }
    return x;
  }
  std::array<Complex, 2> solve_output(std::int64_t copy, const Complex* q) const {
    std::array<Complex, 2> y = {};
    for (std::int64_t s = 0; s < rank; ++s) {
      for (std::int64_t r = 0; r < rank; ++r) y[at(s)] += q[copy * (1 + rank) + 1 + r] * inverse[at(r)][at(s)];
    }
    return y;
  }
};

}  // namespace

void s4_spectrum(const S4Node& node, const Complex* q, Complex* spectrum) {
  const std::array<Complex, 2> x = Correction(node, q).solve_input(node, q);
  for (std::int64_t copy = 0; copy < node.copies; ++copy) {
    const Complex* row = q + copy * (1 + node.rank);
    Complex sum = row[0];
    for (std::int64_t r = 0; r < node.rank; ++r) sum -= node.c * row[1 + r] * x[at(r)];
    spectrum[copy] = Complex(node.c, 0.5 * node.u) * sum;
  }
}

// The bracket F = q(C,B) - c v^T W^-1 u has derivatives 1 by q(C,B), -c x by v, -c y by u, c y x^T by W, and W has c by
// q(P*,P).
void s4_spectrum_backward(const S4Node& node, const Complex* q, const Complex* dspectrum, Complex* dq) {
  const Correction correction(node, q);
  const std::array<Complex, 2> x = correction.solve_input(node, q);
  const std::int64_t columns = 1 + node.rank;
  for (std::int64_t i = 0; i < (node.copies + node.rank) * columns; ++i) dq[i] = 0.0;
  for (std::int64_t copy = 0; copy < node.copies; ++copy) {
    const std::array<Complex, 2> y = correction.solve_output(copy, q);
    const Complex up = Complex(node.c, -0.5 * node.u) * dspectrum[copy];
    dq[copy * columns] = up;
    for (std::int64_t r = 0; r < node.rank; ++r) dq[copy * columns + 1 + r] = -node.c * std::conj(x[at(r)]) * up;
    for (std::int64_t s = 0; s < node.rank; ++s) {
      Complex* row = dq + (node.copies + s) * columns;
      row[0] -= node.c * std::conj(y[at(s)]) * up;
      for (std::int64_t r = 0; r < node.rank; ++r) {
        row[1 + r] += node.c * node.c * std::conj(y[at(s)] * x[at(r)]) * up;
      }
    }
  }
}

S4Sums::S4Sums(std::int64_t channels, std::int64_t states, std::int64_t rank)
    : lambda(at(channels * states)), b(lambda.size()), p(at(rank) * lambda.size()), log_dt(at(channels)) {}

template <class T>
void check_s4(const S4KernelOf<T>& p, std::int64_t kernel_rows) {
  KRAIT_CHECK(p.channels >= 0 && p.states >= 1 && p.copies >= 1, "{} channels, {} states, {} copies", p.channels,
              p.states, p.copies);
  KRAIT_CHECK(p.sets >= 1 && p.channels % p.sets == 0, "{} sets for {} channels", p.sets, p.channels);
  KRAIT_CHECK(p.rank >= 0 && p.rank <= 2, "a correction of rank {}", p.rank);
  KRAIT_CHECK_EQ(kernel_rows, p.copies * p.channels);
}

template <class T>
void prepare_s4_channel(const S4KernelOf<T>& p, std::int64_t h, S4Channel& channel) {
  channel.lambda.clear(), channel.mu.clear(), channel.left.clear(), channel.right.clear(), channel.products.clear();
  channel.dt = p.rate * std::exp(static_cast<double>(p.log_dt[h]));
  const std::int64_t set = h % p.sets * p.states;
  for (std::int64_t n = 0; n < p.states; ++n) {
    channel.lambda.emplace_back(-std::exp(static_cast<double>(p.log_decay[set + n])),
                                static_cast<double>(p.frequency[set + n]));
    channel.mu.push_back(channel.dt * channel.lambda.back());
  }
  for (std::int64_t copy = 0; copy < p.copies; ++copy) {
    for (std::int64_t n = 0; n < p.states; ++n) {
      channel.left.push_back(complex_at(p.c, (copy * p.channels + h) * p.states + n));
    }
  }
  for (std::int64_t n = 0; n < p.states; ++n) channel.right.push_back(complex_at(p.b, set + n));
  for (std::int64_t r = 0; r < p.rank; ++r) {
    for (std::int64_t n = 0; n < p.states; ++n) {
      channel.right.push_back(complex_at(p.p, r * p.sets * p.states + set + n));
      channel.left.push_back(std::conj(channel.right.back()));
    }
  }
  for (std::int64_t n = 0; n < p.states; ++n) {
    for (std::int64_t u = 0; u < p.copies + p.rank; ++u) {
      for (std::int64_t v = 0; v < 1 + p.rank; ++v) {
        channel.products.push_back(channel.dt * channel.left[at(u * p.states + n)] *
                                   channel.right[at(v * p.states + n)]);
      }
    }
  }
}

template <class T>
void add_s4_channel(const S4KernelOf<T>& p, std::int64_t h, const S4Channel& channel, std::span<const Complex> products,
                    std::span<const Complex> mu, S4Sums& sums, const S4KernelGradientsOf<T>& gradients) {
  const std::int64_t left_count = p.copies + p.rank, right_count = 1 + p.rank;
  double by_dt = 0.0;
  for (std::int64_t n = 0; n < p.states; ++n) {
    const std::size_t sum = at(h * p.states + n);
    sums.lambda[sum] = channel.dt * mu[at(n)];
    by_dt += (std::conj(channel.lambda[at(n)]) * mu[at(n)]).real();
    for (std::int64_t u = 0; u < left_count; ++u) {
      const Complex left = channel.left[at(u * p.states + n)];
      Complex by_left = 0.0;
      for (std::int64_t v = 0; v < right_count; ++v) {
        const Complex right = channel.right[at(v * p.states + n)];
        const Complex up = products[at((n * left_count + u) * right_count + v)];
        by_dt += (std::conj(left * right) * up).real();
        by_left += channel.dt * std::conj(right) * up;
        const Complex by_right = channel.dt * std::conj(left) * up;
        if (v == 0) {
          sums.b[sum] += by_right;
        } else {
          sums.p[at(v - 1) * sums.b.size() + sum] += by_right;
        }
      }
      if (u >= p.copies) {
        sums.p[at(u - p.copies) * sums.b.size() + sum] += std::conj(by_left);
      } else if (gradients.c != nullptr) {
        add_complex(gradients.c, (u * p.channels + h) * p.states + n, by_left);
      }
    }
  }
  sums.log_dt[at(h)] = channel.dt * by_dt;
}

template <class T>
void add_s4_sums(const S4KernelOf<T>& p, const S4Sums& sums, const S4KernelGradientsOf<T>& gradients) {
  const auto over_set = [&](const Complex* values, std::int64_t entry) {
    Complex sum = 0.0;
    for (std::int64_t h = entry / p.states; h < p.channels; h += p.sets) sum += values[h * p.states + entry % p.states];
    return sum;
  };
  const std::int64_t entries = p.sets * p.states;
  for (std::int64_t entry = 0; entry < entries; ++entry) {
    const Complex lambda = over_set(sums.lambda.data(), entry);
    if (gradients.log_decay != nullptr) {
      gradients.log_decay[entry] += static_cast<T>(-std::exp(static_cast<double>(p.log_decay[entry])) * lambda.real());
    }
    if (gradients.frequency != nullptr) gradients.frequency[entry] += static_cast<T>(lambda.imag());
    if (gradients.b != nullptr) add_complex(gradients.b, entry, over_set(sums.b.data(), entry));
    for (std::int64_t r = 0; r < p.rank && gradients.p != nullptr; ++r) {
      const Complex* values = sums.p.data() + at(r) * sums.b.size();
      add_complex(gradients.p, r * entries + entry, over_set(values, entry));
    }
  }
  for (std::int64_t h = 0; h < p.channels && gradients.log_dt != nullptr; ++h) {
    gradients.log_dt[h] += static_cast<T>(sums.log_dt[at(h)]);
  }
}

template void check_s4(const S4KernelOf<float>&, std::int64_t);
template void check_s4(const S4KernelOf<double>&, std::int64_t);
template void prepare_s4_channel(const S4KernelOf<float>&, std::int64_t, S4Channel&);
template void prepare_s4_channel(const S4KernelOf<double>&, std::int64_t, S4Channel&);
template void add_s4_channel(const S4KernelOf<float>&, std::int64_t, const S4Channel&, std::span<const Complex>,
                             std::span<const Complex>, S4Sums&, const S4KernelGradientsOf<float>&);
template void add_s4_channel(const S4KernelOf<double>&, std::int64_t, const S4Channel&, std::span<const Complex>,
                             std::span<const Complex>, S4Sums&, const S4KernelGradientsOf<double>&);
template void add_s4_sums(const S4KernelOf<float>&, const S4Sums&, const S4KernelGradientsOf<float>&);
template void add_s4_sums(const S4KernelOf<double>&, const S4Sums&, const S4KernelGradientsOf<double>&);

}  // namespace krait::kernels
