#include "krait/kernels/reference/scan_diagonal.h"

#include <complex>

namespace krait::kernels::reference {
namespace {

using Complex = std::complex<double>;

Complex value_at(const double* row, std::int64_t states, std::int64_t n) { return {row[n], row[states + n]}; }
void put(Complex value, double* row, std::int64_t states, std::int64_t n) {
  row[n] = value.real();
  row[states + n] = value.imag();
}
Complex decay_at(const DiagonalScanOf<double>& scan, std::int64_t row, std::int64_t n) {
  return value_at(scan.a != nullptr ? scan.a : scan.a_rows.row(row), scan.states, n);
}

}  // namespace

void diagonal_scan(const DiagonalScanOf<double>& scan, Rows<const double> u, std::span<const SequenceRows> sequences,
                   std::span<double* const> states, Rows<double> h) {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    for (std::int64_t n = 0; n < scan.states; ++n) {
      Complex state = states.empty() ? 0.0 : value_at(states[i], scan.states, n);
      for (std::int64_t t = sequences[i].first_row; t < sequences[i].first_row + sequences[i].rows; ++t) {
        state = decay_at(scan, t, n) * state + value_at(u.row(t), scan.states, n);
        put(state, h.row(t), scan.states, n);
      }
      if (!states.empty()) put(state, states[i], scan.states, n);
    }
  }
}

void diagonal_scan_backward(const DiagonalScanOf<double>& scan, Rows<const double> h, Rows<const double> dh,
                            std::span<const SequenceRows> sequences, std::span<const double* const> initial_states,
                            std::span<const SequenceGradientsOf<double>> states,
                            const DiagonalScanGradientsOf<double>& gradients) {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::int64_t first = sequences[i].first_row;
    for (std::int64_t n = 0; n < scan.states; ++n) {
      const double* final_state = states.empty() ? nullptr : states[i].final_state;
      Complex carried = final_state == nullptr ? 0.0 : value_at(final_state, scan.states, n);
      for (std::int64_t t = first + sequences[i].rows - 1; t >= first; --t) {
        const Complex g = value_at(dh.row(t), scan.states, n) + carried;
        Complex before = initial_states.empty() ? 0.0 : value_at(initial_states[i], scan.states, n);
        if (t > first) before = value_at(h.row(t - 1), scan.states, n);
        const Complex by_decay = g * std::conj(before);
        put(g, gradients.u.row(t), scan.states, n);
        if (gradients.a != nullptr) {
          gradients.a[n] += by_decay.real();
          gradients.a[scan.states + n] += by_decay.imag();
        }
        if (!gradients.a_rows.empty()) put(by_decay, gradients.a_rows.row(t), scan.states, n);
        carried = std::conj(decay_at(scan, t, n)) * g;
      }
      if (!states.empty() && states[i].initial_state != nullptr) {
        put(carried, states[i].initial_state, scan.states, n);
      }
    }
  }
}

}  // namespace krait::kernels::reference
