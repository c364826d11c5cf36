#include "krait/kernels/reference/scan_ssd_backward.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace krait::kernels::reference {
namespace {

template <Terms kTerms>
void head_backward(const SsdScanOf<double>& scan, const SsdScanInputsOf<double>& in, std::span<const double> state,
                   Rows<const double> dy, const SequenceGradientsOf<double>& states,
                   const SsdScanGradientsOf<double>& gradients, std::int64_t head) {
  constexpr auto v = term<kTerms>;
  const std::int64_t rows = in.x.rows, count = scan.states, width = scan.head_width, size = count * width;
  const std::int64_t group = head / (scan.heads / scan.groups) * count, first = head * width;
  const double rate = scan.a[head];
  const auto skip_of = [&](std::int64_t p) { return scan.d_per_channel ? first + p : head; };
  const auto raw = [&](std::int64_t t) {
    return in.dt.row(t)[head] + (scan.dt_bias == nullptr ? 0.0 : scan.dt_bias[head]);
  };
  const auto step_at = [&](std::int64_t t) { return std::clamp(softplus(raw(t)), scan.dt_low, scan.dt_high); };
  const auto decay = [&](double step) { return decay_of<kTerms>(step * rate); };
  std::vector<double> s(static_cast<std::size_t>((rows + 1) * size));
  const auto s_at = [&](std::int64_t t, std::int64_t n, std::int64_t p) -> double& {  // before row t
    return s[static_cast<std::size_t>(t * size + n * width + p)];
  };
  for (std::int64_t i = 0; i < size; ++i) {
    s[static_cast<std::size_t>(i)] = v(state[static_cast<std::size_t>(head * size + i)]);
  }
  for (std::int64_t t = 0; t < rows; ++t) {
    const double step = step_at(t);
    for (std::int64_t n = 0; n < count; ++n) {
      for (std::int64_t p = 0; p < width; ++p) {
        s_at(t + 1, n, p) = decay(step) * s_at(t, n, p) + step * v(in.b.row(t)[group + n]) * v(in.x.row(t)[first + p]);
      }
    }
  }
  std::vector<double> g(static_cast<std::size_t>(size), 0.0);
  for (std::int64_t i = 0; i < size && states.final_state != nullptr; ++i) {
    g[static_cast<std::size_t>(i)] = v(states.final_state[head * size + i]);
  }
  for (std::int64_t t = rows - 1; t >= 0; --t) {
    const double step = step_at(t), a = decay(step);
    double to_step = 0.0, to_exponent = 0.0;
    for (std::int64_t p = 0; p < width; ++p) {
      const double up = v(dy.row(t)[first + p]), x = v(in.x.row(t)[first + p]);
      double to_input = 0.0;
      for (std::int64_t n = 0; n < count; ++n) {
        double& gradient = g[static_cast<std::size_t>(n * width + p)];
        gradient += v(in.c.row(t)[group + n]) * up;
        gradients.c.row(t)[group + n] += up * s_at(t + 1, n, p);
        gradients.b.row(t)[group + n] += gradient * step * x;
        to_input += gradient * v(in.b.row(t)[group + n]);
        to_exponent += gradient * a * s_at(t, n, p);
        gradient *= a;
      }
      to_step += to_input * x;
      gradients.x.row(t)[first + p] = step * to_input;
      if (scan.d == nullptr) continue;
      gradients.x.row(t)[first + p] += v(scan.d[skip_of(p)]) * up;
      if (gradients.d != nullptr) gradients.d[skip_of(p)] += up * x;
    }
    if (gradients.a != nullptr) gradients.a[head] += step * to_exponent;
    const double free = softplus(raw(t));
    const bool within = free >= scan.dt_low && free <= scan.dt_high;
    const double to_raw = within ? (to_step + v(rate) * to_exponent) * softplus_slope(raw(t)) : 0.0;
    gradients.dt.row(t)[head] = to_raw;
    if (gradients.dt_bias != nullptr && scan.dt_bias != nullptr) gradients.dt_bias[head] += to_raw;
  }
  for (std::int64_t i = 0; i < size && states.initial_state != nullptr; ++i) {
    states.initial_state[head * size + i] = g[static_cast<std::size_t>(i)];
  }
}

}  // namespace

void ssd_scan_backward(const SsdScanOf<double>& scan, const SsdScanInputsOf<double>& in, std::span<const double> state,
                       Rows<const double> dy, const SequenceGradientsOf<double>& states,
                       const SsdScanGradientsOf<double>& gradients, Terms terms) {
  const auto run = terms == Terms::kSigned ? head_backward<Terms::kSigned> : head_backward<Terms::kMagnitude>;
  for (std::int64_t t = 0; t < in.x.rows; ++t) {
    std::fill_n(gradients.b.row(t), scan.groups * scan.states, 0.0);
    std::fill_n(gradients.c.row(t), scan.groups * scan.states, 0.0);
  }
  for (std::int64_t head = 0; head < scan.heads; ++head) {
    run(scan, in, state, dy, states, gradients, head);
  }
}

}  // namespace krait::kernels::reference
