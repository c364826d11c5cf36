#include "krait/kernels/reference/scan.h"

#include <algorithm>
#include <cmath>

namespace krait::kernels::reference {

template <class Real>
void selective_scan(const SelectiveScanOf<Real>& scan, RowsOf<Real> x, RowsOf<Real> dt, RowsOf<Real> b, RowsOf<Real> c,
                    RowsOf<Real> z, std::span<double> state, RowsDouble y) {
  const std::int64_t channels = scan.channels, states = scan.states;
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t e = 0; e < channels; ++e) {
      const std::int64_t group = e / (channels / scan.groups);
      const double raw = dt.row(t)[e] + (scan.dt_bias == nullptr ? 0.0 : double{scan.dt_bias[e]});
      const double step = scan.dt_softplus ? softplus(raw) : raw;
      const double input = x.row(t)[e];
      double sum = 0.0;
      for (std::int64_t n = 0; n < states; ++n) {
        double& h = state[static_cast<std::size_t>(n * channels + e)];
        h = std::exp(step * scan.a[n * channels + e]) * h + step * b.row(t)[group * states + n] * input;
        sum += c.row(t)[group * states + n] * h;
      }
      if (scan.d != nullptr) sum += scan.d[e] * input;
      y.row(t)[e] = z.empty() ? sum : sum * silu(z.row(t)[e]);
    }
  }
}

template <class Real>
void ssd_scan(const SsdScanOf<Real>& scan, RowsOf<Real> x, RowsOf<Real> dt, RowsOf<Real> b, RowsOf<Real> c,
              std::span<double> state, RowsDouble y) {
  const std::int64_t states = scan.states, width = scan.head_width;
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t h = 0; h < scan.heads; ++h) {
      const std::int64_t group = h / (scan.heads / scan.groups);
      const double raw = dt.row(t)[h] + (scan.dt_bias == nullptr ? 0.0 : double{scan.dt_bias[h]});
      const double step = std::clamp(softplus(raw), double{scan.dt_low}, double{scan.dt_high});
      const double decay = std::exp(step * scan.a[h]);
      for (std::int64_t p = 0; p < width; ++p) {
        const double input = x.row(t)[h * width + p];
        double sum = 0.0;
        for (std::int64_t n = 0; n < states; ++n) {
          double& s = state[static_cast<std::size_t>((h * states + n) * width + p)];
          s = decay * s + step * b.row(t)[group * states + n] * input;
          sum += c.row(t)[group * states + n] * s;
        }
        if (scan.d != nullptr) sum += scan.d[scan.d_per_channel ? h * width + p : h] * input;
        y.row(t)[h * width + p] = sum;
      }
    }
  }
}

template void selective_scan(const SelectiveScanOf<float>&, RowsOf<float>, RowsOf<float>, RowsOf<float>, RowsOf<float>,
                             RowsOf<float>, std::span<double>, RowsDouble);
template void selective_scan(const SelectiveScanOf<double>&, RowsOf<double>, RowsOf<double>, RowsOf<double>,
                             RowsOf<double>, RowsOf<double>, std::span<double>, RowsDouble);
template void ssd_scan(const SsdScanOf<float>&, RowsOf<float>, RowsOf<float>, RowsOf<float>, RowsOf<float>,
                       std::span<double>, RowsDouble);
template void ssd_scan(const SsdScanOf<double>&, RowsOf<double>, RowsOf<double>, RowsOf<double>, RowsOf<double>,
                       std::span<double>, RowsDouble);

}  // namespace krait::kernels::reference
