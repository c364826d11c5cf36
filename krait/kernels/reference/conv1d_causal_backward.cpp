#include "krait/kernels/reference/conv1d_causal_backward.h"

#include <vector>

#include "krait/kernels/reference/elementwise.h"

namespace krait::kernels::reference {

void conv1d_causal_backward(const Conv1dCausalOf<double>& conv, Rows<const double> x, const double* window,
                            Rows<const double> dy, const SequenceGradientsOf<double>& windows,
                            const Conv1dCausalGradientsOf<double>& gradients) {
  const std::int64_t channels = x.columns, kept = conv.width - 1;
  std::vector<double> ds(static_cast<std::size_t>(x.rows));
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto input = [&](std::int64_t t) {
      if (t >= 0) return x.row(t)[c];
      return window == nullptr ? 0.0 : window[(kept + t) * channels + c];
    };
    const auto weight = [&](std::int64_t k) { return conv.weight[k * channels + c]; };
    for (std::int64_t t = 0; t < x.rows; ++t) {
      double sum = conv.bias == nullptr ? 0.0 : conv.bias[c];
      for (std::int64_t k = 0; k < conv.width; ++k) sum += weight(k) * input(t - kept + k);
      const double slope = conv.silu ? silu_slope(sum) : 1.0;
      const double gradient = dy.row(t)[c] * slope;
      ds[static_cast<std::size_t>(t)] = gradient;
      for (std::int64_t k = 0; k < conv.width && gradients.weight != nullptr; ++k) {
        gradients.weight[k * channels + c] += gradient * input(t - kept + k);
      }
      if (gradients.bias != nullptr) gradients.bias[c] += gradient;
    }
    for (std::int64_t row = -kept; row < x.rows; ++row) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < conv.width; ++k) {
        const std::int64_t t = row + kept - k;
        if (t >= 0 && t < x.rows) sum += weight(k) * ds[static_cast<std::size_t>(t)];
      }
      const std::int64_t left = row - (x.rows - kept);
      if (left >= 0 && windows.final_state != nullptr) sum += windows.final_state[left * channels + c];
      if (row >= 0) {
        gradients.x.row(row)[c] = sum;
      } else if (windows.initial_state != nullptr) {
        windows.initial_state[(kept + row) * channels + c] = sum;
      }
    }
  }
}

}  // namespace krait::kernels::reference
