#include "krait/kernels/reference/s4_kernel.h"

#include <cmath>
#include <numbers>

#include "krait/kernels/s4_output.h"
#include "krait/kernels/s4_states.h"

namespace krait::kernels::reference {
namespace {

using Complex = std::complex<double>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

S4Node node_of(const S4KernelOf<double>& parameters, std::int64_t k, std::int64_t length) {
  const double half = std::numbers::pi * static_cast<double>(k) / static_cast<double>(length);
  return {parameters.copies, parameters.rank, 2.0 * std::sin(half), 2 * k == length ? 0.0 : std::cos(half)};
}

// 1 / (i u - c mu), and of the conjugate state.
struct Pole {
  Complex first, second;
  Pole(const S4Node& node, Complex mu)
      : first(1.0 / (Complex(0.0, node.u) - node.c * mu)),
        second(1.0 / (Complex(0.0, node.u) - node.c * std::conj(mu))) {}
};

std::vector<Complex> sums_at(const S4Node& node, const S4Channel& channel) {
  const std::size_t count = channel.products.size() / channel.mu.size();
  std::vector<Complex> q(count);
  for (std::size_t n = 0; n < channel.mu.size(); ++n) {
    const Pole pole(node, channel.mu[n]);
    for (std::size_t i = 0; i < count; ++i) {
      const Complex v = channel.products[n * count + i];
      q[i] += v * pole.first + std::conj(v) * pole.second;
    }
  }
  return q;
}

double share_of(std::int64_t k, std::int64_t length) {
  return (k == 0 || 2 * k == length ? 1.0 : 2.0) / static_cast<double>(length);
}

}  // namespace

void s4_kernel(const S4KernelOf<double>& parameters, Rows<double> kernel) {
  check_s4(parameters, kernel.rows);
  const std::int64_t length = kernel.columns;
  S4Channel channel;
  std::vector<Complex> spectrum(at(parameters.copies));
  for (std::int64_t h = 0; h < parameters.channels; ++h) {
    prepare_s4_channel(parameters, h, channel);
    const auto row_of = [&](std::int64_t copy) { return kernel.row(copy * parameters.channels + h); };
    for (std::int64_t copy = 0; copy < parameters.copies; ++copy) std::fill_n(row_of(copy), length, 0.0);
    for (std::int64_t k = 0; k <= length / 2; ++k) {
      const S4Node node = node_of(parameters, k, length);
      s4_spectrum(node, sums_at(node, channel).data(), spectrum.data());
      for (std::int64_t copy = 0; copy < parameters.copies; ++copy) {
        for (std::int64_t l = 0; l < length; ++l) {
          const double angle =
              2.0 * std::numbers::pi * static_cast<double>(k * l % length) / static_cast<double>(length);
          row_of(copy)[l] += share_of(k, length) * (spectrum[at(copy)] * std::polar(1.0, angle)).real();
        }
      }
    }
  }
}

void s4_kernel_backward(const S4KernelOf<double>& parameters, Rows<const double> dkernel,
                        const S4KernelGradientsOf<double>& gradients) {
  check_s4(parameters, dkernel.rows);
  const std::int64_t length = dkernel.columns;
  S4Sums sums(parameters.channels, parameters.states, parameters.rank);
  S4Channel channel;
  std::vector<Complex> up(at(parameters.copies));
  for (std::int64_t h = 0; h < parameters.channels; ++h) {
    prepare_s4_channel(parameters, h, channel);
    std::vector<Complex> products(channel.products.size()), mu(channel.mu.size());
    const std::size_t count = products.size() / mu.size();
    for (std::int64_t k = 0; k <= length / 2; ++k) {
      for (std::int64_t copy = 0; copy < parameters.copies; ++copy) {
        up[at(copy)] = 0.0;
        for (std::int64_t l = 0; l < length; ++l) {
          const double angle =
              2.0 * std::numbers::pi * static_cast<double>(k * l % length) / static_cast<double>(length);
          up[at(copy)] +=
              share_of(k, length) * dkernel.row(copy * parameters.channels + h)[l] * std::polar(1.0, -angle);
        }
      }
      const S4Node node = node_of(parameters, k, length);
      std::vector<Complex> dq(count);
      s4_spectrum_backward(node, sums_at(node, channel).data(), up.data(), dq.data());
      for (std::size_t n = 0; n < mu.size(); ++n) {
        const Pole pole(node, channel.mu[n]);
        for (std::size_t i = 0; i < count; ++i) {
          const Complex v = channel.products[n * count + i];
          products[n * count + i] += std::conj(pole.first) * dq[i] + pole.second * std::conj(dq[i]);
          mu[n] += node.c * (std::conj(v * pole.first * pole.first) * dq[i] +
                             std::conj(v) * pole.second * pole.second * std::conj(dq[i]));
        }
      }
    }
    add_s4_channel<double>(parameters, h, channel, products, mu, sums, gradients);
  }
  add_s4_sums(parameters, sums, gradients);
}

void s4_steps(const S4KernelOf<double>& parameters, Rows<const double> u, Rows<double> y) {
  for (std::int64_t h = 0; h < parameters.channels; ++h) {
    const S4Matrices matrices = s4_matrices(parameters, h);
    const std::vector<Complex> c = s4_whole_vector(parameters.c + 2 * h * parameters.states, parameters.states);
    std::vector<Complex> state(c.size()), next(c.size());
    for (std::int64_t t = 0; t < u.rows; ++t) {
      Complex sum = 0.0;
      for (std::size_t i = 0; i < state.size(); ++i) {
        next[i] = matrices.input[i] * u.row(t)[h];
        for (std::size_t j = 0; j < state.size(); ++j) next[i] += matrices.step[i * state.size() + j] * state[j];
        sum += c[i] * next[i];
      }
      state = next;
      y.row(t)[h] = sum.real();
    }
  }
}

}  // namespace krait::kernels::reference
