#include "krait/kernels/reference/scan_selective_backward.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace krait::kernels::reference {
namespace {

template <Terms kTerms>
double gate_slope(double z) {
  if (kTerms == Terms::kSigned) return silu_slope(z);
  const double sigmoid = 1.0 / (1.0 + std::exp(-z));
  return sigmoid * (1.0 + std::fabs(z) * (1.0 - sigmoid));
}

// One channel: its share of dB and dC is added to their rows.
template <Terms kTerms>
void channel_backward(const SelectiveScanOf<double>& scan, const SelectiveScanInputsOf<double>& in,
                      std::span<const double> state, Rows<const double> dy, const SequenceGradientsOf<double>& states,
                      const SelectiveScanGradientsOf<double>& gradients, std::int64_t e) {
  constexpr auto v = term<kTerms>;
  const std::int64_t rows = in.x.rows, count = scan.states;
  const std::int64_t group = e / (scan.channels / scan.groups) * count;
  const auto rate = [&](std::int64_t n) { return scan.a[n * scan.channels + e]; };
  const double skip = scan.d == nullptr ? 0.0 : v(scan.d[e]);
  std::vector<double> h(static_cast<std::size_t>((rows + 1) * count)), y(static_cast<std::size_t>(rows));
  const auto h_at = [&](std::int64_t t, std::int64_t n) -> double& {  // before row t
    return h[static_cast<std::size_t>(t * count + n)];
  };
  const auto raw = [&](std::int64_t t) { return in.dt.row(t)[e] + (scan.dt_bias == nullptr ? 0.0 : scan.dt_bias[e]); };
  const auto step_at = [&](std::int64_t t) { return scan.dt_softplus ? softplus(raw(t)) : raw(t); };
  const auto decay = [&](double step, std::int64_t n) { return decay_of<kTerms>(step * rate(n)); };
  for (std::int64_t n = 0; n < count; ++n) h_at(0, n) = v(state[static_cast<std::size_t>(n * scan.channels + e)]);
  for (std::int64_t t = 0; t < rows; ++t) {
    const double step = step_at(t), x = v(in.x.row(t)[e]);
    double sum = skip * x;
    for (std::int64_t n = 0; n < count; ++n) {
      h_at(t + 1, n) = decay(step, n) * h_at(t, n) + v(step) * v(in.b.row(t)[group + n]) * x;
      sum += v(in.c.row(t)[group + n]) * h_at(t + 1, n);
    }
    y[static_cast<std::size_t>(t)] = sum;
  }
  std::vector<double> g(static_cast<std::size_t>(count), 0.0);
  if (states.final_state != nullptr) {
    for (std::int64_t n = 0; n < count; ++n) {
      g[static_cast<std::size_t>(n)] = v(states.final_state[n * scan.channels + e]);
    }
  }
  for (std::int64_t t = rows - 1; t >= 0; --t) {
    const double step = step_at(t), x = v(in.x.row(t)[e]);
    double up = v(dy.row(t)[e]);
    if (!in.z.empty()) {
      const double z = in.z.row(t)[e];
      gradients.z.row(t)[e] = up * y[static_cast<std::size_t>(t)] * gate_slope<kTerms>(z);
      up *= v(silu(z));
    }
    double to_step = 0.0, to_x = skip * up;
    for (std::int64_t n = 0; n < count; ++n) {
      double& gradient = g[static_cast<std::size_t>(n)];
      const double a = decay(step, n), b = v(in.b.row(t)[group + n]);
      gradient += v(in.c.row(t)[group + n]) * up;
      gradients.c.row(t)[group + n] += up * h_at(t + 1, n);
      gradients.b.row(t)[group + n] += gradient * v(step) * x;
      to_x += gradient * v(step) * b;
      to_step += gradient * (b * x + v(rate(n)) * a * h_at(t, n));
      if (gradients.a != nullptr) gradients.a[n * scan.channels + e] += gradient * v(step) * a * h_at(t, n);
      gradient *= a;
    }
    if (scan.dt_softplus) to_step *= softplus_slope(raw(t));
    gradients.x.row(t)[e] = to_x;
    gradients.dt.row(t)[e] = to_step;
    if (gradients.d != nullptr && scan.d != nullptr) gradients.d[e] += up * x;
    if (gradients.dt_bias != nullptr && scan.dt_bias != nullptr) gradients.dt_bias[e] += to_step;
  }
  if (states.initial_state != nullptr) {
    for (std::int64_t n = 0; n < count; ++n) {
      states.initial_state[n * scan.channels + e] = g[static_cast<std::size_t>(n)];
    }
  }
}

}  // namespace

void selective_scan_backward(const SelectiveScanOf<double>& scan, const SelectiveScanInputsOf<double>& in,
                             std::span<const double> state, Rows<const double> dy,
                             const SequenceGradientsOf<double>& states,
                             const SelectiveScanGradientsOf<double>& gradients, Terms terms) {
  const auto run = terms == Terms::kSigned ? channel_backward<Terms::kSigned> : channel_backward<Terms::kMagnitude>;
  for (std::int64_t t = 0; t < in.x.rows; ++t) {
    std::fill_n(gradients.b.row(t), scan.groups * scan.states, 0.0);
    std::fill_n(gradients.c.row(t), scan.groups * scan.states, 0.0);
  }
  for (std::int64_t e = 0; e < scan.channels; ++e) {
    run(scan, in, state, dy, states, gradients, e);
  }
}

}  // namespace krait::kernels::reference
