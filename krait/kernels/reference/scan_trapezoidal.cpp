#include "krait/kernels/reference/scan_trapezoidal.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace krait::kernels::reference {
namespace {

struct Bounded {
  double value = 0.0, magnitude = 0.0;
};

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// Rot(theta)(rms(from) norm + bias) of one r: [N]
template <class T>
std::vector<Bounded> rotated(const TrapezoidalScanOf<T>& scan, const T* from, const T* norm, const T* bias,
                             const double* angle) {
  const std::int64_t states = scan.states;
  double squares = 0.0;
  for (std::int64_t n = 0; n < states; ++n) squares += double{from[n]} * from[n];
  const double factor = 1.0 / std::sqrt(squares / static_cast<double>(states) + scan.epsilon);
  std::vector<Bounded> plain, result;
  for (std::int64_t n = 0; n < states; ++n) {
    const double normed = double{from[n]} * factor * norm[n];
    plain.push_back({normed + bias[n], std::fabs(normed) + std::fabs(bias[n])});
  }
  result = plain;
  for (std::int64_t i = 0; i < scan.angles; ++i) {
    const auto left = static_cast<std::size_t>(scan.halves ? i : 2 * i);
    const auto right = static_cast<std::size_t>(scan.halves ? i + states / 2 : 2 * i + 1);
    const double c = std::cos(angle[i]), s = std::sin(angle[i]);
    const double both = plain[left].magnitude + plain[right].magnitude;
    result[left] = {plain[left].value * c - plain[right].value * s, both};
    result[right] = {plain[left].value * s + plain[right].value * c, both};
  }
  return result;
}

}  // namespace

template <class T>
void trapezoidal_scan(const TrapezoidalScanOf<T>& scan, const TrapezoidalInputsOf<T>& in, TrapezoidalState& state,
                      RowsDouble y, RowsDouble magnitude) {
  const std::int64_t states = scan.states, width = scan.head_width, rank = scan.rank;
  const auto mix = [&](const T* all, std::int64_t h, std::int64_t r, std::int64_t p) {
    return all == nullptr ? 1.0 : double{all[(h * rank + r) * width + p]};
  };
  for (std::int64_t t = 0; t < in.x.rows; ++t) {
    for (std::int64_t h = 0; h < scan.heads; ++h) {
      const std::int64_t group = h / (scan.heads / scan.groups);
      const double dt = softplus(double{in.dt.row(t)[h]} + scan.dt_bias[h]);
      const double u = in.a.row(t)[h];
      const double a = -std::max(u >= 0.0 ? 1.0 + u : 1.0 / (1.0 - u), double{scan.decay_floor});
      const double l = sigmoid(in.trap.row(t)[h]);
      const double alpha = std::exp(a * dt), beta = (1.0 - l) * dt * alpha, gamma = l * dt;
      // Half the decay: the errors of the exponents are absorbed by what it leaves over.
      const double alpha_bound = std::exp(0.5 * a * dt), beta_bound = (1.0 - l) * dt * alpha_bound;
      double* angle = state.angle.data() + h * scan.angles;
      for (std::int64_t i = 0; i < scan.angles; ++i) {
        angle[i] += std::numbers::pi * std::tanh(double{in.angle.row(t)[i]}) * dt;
      }
      std::vector<std::vector<Bounded>> k, q;
      for (std::int64_t r = 0; r < rank; ++r) {
        const std::int64_t shared = (r * scan.groups + group) * states, own = (h * rank + r) * states;
        k.push_back(rotated(scan, in.b.row(t) + shared, scan.b_norm, scan.b_bias + own, angle));
        q.push_back(rotated(scan, in.c.row(t) + shared, scan.c_norm, scan.c_bias + own, angle));
      }
      std::vector<Bounded> raw(static_cast<std::size_t>(rank * width));
      for (std::int64_t p = 0; p < width; ++p) {
        const double x = in.x.row(t)[h * width + p];
        const double last = state.value[static_cast<std::size_t>(h * width + p)];
        for (std::int64_t n = 0; n < states; ++n) {
          const auto at = static_cast<std::size_t>((h * states + n) * width + p);
          double s = alpha * state.state[at], bound = alpha_bound * state.state_magnitude[at];
          for (std::int64_t r = 0; r < rank; ++r) {
            const double m = mix(scan.value_mix, h, r, p);
            const auto key = static_cast<std::size_t>((h * rank + r) * states + n);
            const Bounded& kn = k[static_cast<std::size_t>(r)][static_cast<std::size_t>(n)];
            s += beta * last * m * state.key[key] + gamma * x * m * kn.value;
            bound += std::fabs(m) *
                     (beta_bound * std::fabs(last) * state.key_magnitude[key] + gamma * std::fabs(x) * kn.magnitude);
          }
          state.state[at] = s;
          state.state_magnitude[at] = bound;
          for (std::int64_t r = 0; r < rank; ++r) {
            const Bounded& qn = q[static_cast<std::size_t>(r)][static_cast<std::size_t>(n)];
            Bounded& sum = raw[static_cast<std::size_t>(r * width + p)];
            sum.value += s * qn.value;
            sum.magnitude += bound * qn.magnitude;
          }
        }
        for (std::int64_t r = 0; r < rank; ++r) {
          const double skip = scan.d[h] * x * mix(scan.value_mix, h, r, p);
          raw[static_cast<std::size_t>(r * width + p)].value += skip;
          raw[static_cast<std::size_t>(r * width + p)].magnitude += std::fabs(skip);
        }
        state.value[static_cast<std::size_t>(h * width + p)] = x;
      }
      for (std::int64_t r = 0; r < rank; ++r) {
        for (std::int64_t n = 0; n < states; ++n) {
          const auto key = static_cast<std::size_t>((h * rank + r) * states + n);
          state.key[key] = k[static_cast<std::size_t>(r)][static_cast<std::size_t>(n)].value;
          state.key_magnitude[key] = k[static_cast<std::size_t>(r)][static_cast<std::size_t>(n)].magnitude;
        }
      }
      std::fill_n(y.row(t) + h * width, width, 0.0);
      if (!magnitude.empty()) std::fill_n(magnitude.row(t) + h * width, width, 0.0);
      for (std::int64_t r = 0; r < rank; ++r) {
        double squares = 0.0, most = 0.0;
        for (std::int64_t p = 0; p < width; ++p) {
          squares += std::pow(raw[static_cast<std::size_t>(r * width + p)].value, 2);
          most += std::pow(raw[static_cast<std::size_t>(r * width + p)].magnitude, 2);
        }
        const double root = std::sqrt(squares / static_cast<double>(width) + scan.epsilon);
        const double root_magnitude = std::sqrt(most / static_cast<double>(width));
        for (std::int64_t p = 0; p < width; ++p) {
          const Bounded& sum = raw[static_cast<std::size_t>(r * width + p)];
          const double gate = silu(in.z.row(t)[h * width + p] * mix(scan.gate_mix, h, r, p));
          double factor = gate * mix(scan.out_mix, h, r, p);
          double bound = sum.magnitude;
          if (scan.norm != nullptr) {
            factor *= scan.norm[h * width + p] / root;
            // The root moves by no more than the rms of the errors.
            bound += std::fabs(sum.value) * root_magnitude / root;
          }
          y.row(t)[h * width + p] += factor * sum.value;
          if (!magnitude.empty()) magnitude.row(t)[h * width + p] += std::fabs(factor) * bound;
        }
      }
    }
  }
}

template void trapezoidal_scan(const TrapezoidalScanOf<float>&, const TrapezoidalInputsOf<float>&, TrapezoidalState&,
                               RowsDouble, RowsDouble);
template void trapezoidal_scan(const TrapezoidalScanOf<double>&, const TrapezoidalInputsOf<double>&, TrapezoidalState&,
                               RowsDouble, RowsDouble);

}  // namespace krait::kernels::reference
