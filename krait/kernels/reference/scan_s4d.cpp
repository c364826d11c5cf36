#include "krait/kernels/reference/scan_s4d.h"

#include <complex>
#include <vector>

namespace krait::kernels::reference {
namespace {

using Complex = std::complex<double>;

// State m of channel c in an array [M, 2, C].
struct StateAt {
  std::int64_t real, imaginary;
  StateAt(const S4dScanOf<double>& scan, std::int64_t m, std::int64_t c)
      : real(2 * m * scan.channels + c), imaginary(real + scan.channels) {}
  Complex operator()(const double* values) const {
    return values == nullptr ? Complex(0.0) : Complex(values[real], values[imaginary]);
  }
  void put(Complex value, double* values) const {
    values[real] = value.real();
    values[imaginary] = value.imag();
  }
  void add(Complex value, double* values) const {
    if (values == nullptr) return;
    values[real] += value.real();
    values[imaginary] += value.imag();
  }
};

}  // namespace

void s4d_scan(const S4dScanOf<double>& scan, Rows<const double> x, std::span<const SequenceRows> sequences,
              std::span<double* const> states, Rows<double> y) {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRows& sequence = sequences[i];
    for (std::int64_t c = 0; c < scan.channels; ++c) {
      std::vector<double> sums;
      for (std::int64_t t = 0; t < sequence.rows; ++t) {
        sums.push_back(scan.d == nullptr ? 0.0 : scan.d[c] * x.row(sequence.first_row + t)[c]);
      }
      for (std::int64_t m = 0; m < scan.states; ++m) {
        const StateAt at(scan, m, c);
        Complex h = states.empty() ? 0.0 : at(states[i]);
        for (std::int64_t t = 0; t < sequence.rows; ++t) {
          h = at(scan.z) * h + x.row(sequence.first_row + t)[c];
          sums[static_cast<std::size_t>(t)] += (at(scan.w) * h).real();
        }
        if (!states.empty()) at.put(h, states[i]);
      }
      for (std::int64_t t = 0; t < sequence.rows; ++t) {
        y.row(sequence.first_row + t)[c] = sums[static_cast<std::size_t>(t)];
      }
    }
  }
}

void s4d_scan_backward(const S4dScanOf<double>& scan, Rows<const double> x, Rows<const double> dy,
                       std::span<const SequenceRows> sequences, std::span<const double* const> initial_states,
                       std::span<const SequenceGradientsOf<double>> states,
                       const S4dScanGradientsOf<double>& gradients) {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRows& sequence = sequences[i];
    for (std::int64_t c = 0; c < scan.channels; ++c) {
      std::vector<double> dx;
      for (std::int64_t t = sequence.first_row; t < sequence.first_row + sequence.rows; ++t) {
        dx.push_back(scan.d == nullptr ? 0.0 : scan.d[c] * dy.row(t)[c]);
        if (gradients.d != nullptr) gradients.d[c] += x.row(t)[c] * dy.row(t)[c];
      }
      for (std::int64_t m = 0; m < scan.states; ++m) {
        const StateAt at(scan, m, c);
        std::vector<Complex> h = {initial_states.empty() ? 0.0 : at(initial_states[i])};
        for (std::int64_t t = 0; t < sequence.rows; ++t) {
          h.push_back(at(scan.z) * h.back() + x.row(sequence.first_row + t)[c]);
        }
        Complex g = states.empty() ? 0.0 : at(states[i].final_state);
        for (std::int64_t t = sequence.rows - 1; t >= 0; --t) {
          const double up = dy.row(sequence.first_row + t)[c];
          const auto row = static_cast<std::size_t>(t);
          g += std::conj(at(scan.w)) * up;
          dx[row] += g.real();
          at.add(up * std::conj(h[row + 1]), gradients.w);
          at.add(g * std::conj(h[row]), gradients.z);
          g *= std::conj(at(scan.z));
        }
        if (!states.empty() && states[i].initial_state != nullptr) at.put(g, states[i].initial_state);
      }
      for (std::int64_t t = 0; t < sequence.rows; ++t) {
        gradients.x.row(sequence.first_row + t)[c] = dx[static_cast<std::size_t>(t)];
      }
    }
  }
}

}  // namespace krait::kernels::reference
