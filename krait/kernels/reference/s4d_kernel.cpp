#include "krait/kernels/reference/s4d_kernel.h"

#include <cmath>

#include "krait/kernels/s4d_states.h"

namespace krait::kernels::reference {
namespace {

using Complex = std::complex<double>;

// z^l, without any other power.
Complex power(Complex z, std::int64_t l) {
  if (l == 0) return 1.0;
  return std::polar(std::pow(std::abs(z), static_cast<double>(l)), static_cast<double>(l) * std::arg(z));
}

}  // namespace

void s4d_kernel(const S4dKernelOf<double>& parameters, Rows<double> kernel) {
  check_s4d(parameters, kernel.rows);
  S4dChannel channel;
  for (std::int64_t h = 0; h < parameters.channels; ++h) {
    prepare_s4d_channel(parameters, h, channel);
    for (std::int64_t r = 0; r < parameters.copies; ++r) {
      for (std::int64_t l = 0; l < kernel.columns; ++l) {
        double sum = 0.0;
        for (std::size_t n = 0; n < channel.z.size(); ++n) {
          sum += 2.0 *
                 (channel.weights[static_cast<std::size_t>(r) * channel.z.size() + n] * power(channel.z[n], l)).real();
        }
        kernel.row(r * parameters.channels + h)[l] = sum;
      }
    }
  }
}

void s4d_kernel_backward(const S4dKernelOf<double>& parameters, Rows<const double> dkernel,
                         const S4dKernelGradientsOf<double>& gradients) {
  check_s4d(parameters, dkernel.rows);
  S4dSums sums(parameters.channels * parameters.states);
  S4dChannel channel;
  for (std::int64_t h = 0; h < parameters.channels; ++h) {
    prepare_s4d_channel(parameters, h, channel);
    std::vector<Complex> zeroth, first;
    for (std::int64_t r = 0; r < parameters.copies; ++r) {
      const double* row = dkernel.row(r * parameters.channels + h);
      for (const Complex z : channel.z) {
        Complex sum = 0.0, derivative = 0.0;
        for (std::int64_t l = 0; l < dkernel.columns; ++l) {
          sum += row[l] * power(z, l);
          if (l > 0) derivative += static_cast<double>(l) * row[l] * power(z, l - 1);
        }
        zeroth.push_back(sum);
        first.push_back(derivative);
      }
    }
    add_s4d_moments<double>(parameters, h, channel, zeroth, first, sums, gradients);
  }
  add_s4d_sums(parameters, sums, gradients);
}

void s4d_steps(const S4dKernelOf<double>& parameters, Rows<const double> x, std::span<const SequenceRows> sequences,
               Rows<double> y) {
  S4dChannel channel;
  for (std::int64_t h = 0; h < parameters.channels; ++h) {
    prepare_s4d_channel(parameters, h, channel);
    for (const SequenceRows& sequence : sequences) {
      std::vector<Complex> state(channel.z.size());
      for (std::int64_t t = sequence.first_row; t < sequence.first_row + sequence.rows; ++t) {
        double sum = 0.0;
        for (std::size_t n = 0; n < state.size(); ++n) {
          const std::size_t c = 2 * (static_cast<std::size_t>(h) * state.size() + n);
          const std::size_t b = 2 * (static_cast<std::size_t>(h % parameters.sets) * state.size() + n);
          const Complex input = parameters.b == nullptr ? Complex(1.0) : Complex(parameters.b[b], parameters.b[b + 1]);
          state[n] = channel.z[n] * state[n] + input * channel.discrete[n].weight * x.row(t)[h];
          sum += 2.0 * (Complex(parameters.c[c], parameters.c[c + 1]) * state[n]).real();
        }
        y.row(t)[h] = sum;
      }
    }
  }
}

}  // namespace krait::kernels::reference
