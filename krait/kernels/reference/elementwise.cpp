#include "krait/kernels/reference/elementwise.h"

#include <cmath>
#include <vector>

namespace krait::kernels::reference {

double silu(double x) { return x / (1.0 + std::exp(-x)); }

double softplus(double x) { return x > 20.0 ? x : std::log1p(std::exp(x)); }

double silu_slope(double x) {
  const double sigmoid = 1.0 / (1.0 + std::exp(-x));
  return sigmoid * (1.0 + x * (1.0 - sigmoid));
}

double softplus_slope(double x) { return x > 20.0 ? 1.0 : 1.0 / (1.0 + std::exp(-x)); }

void rms_norm(RowsIn x, const float* weight, double epsilon, RowsDouble y) {
  for (std::int64_t t = 0; t < x.rows; ++t) {
    double squares = 0.0;
    for (std::int64_t i = 0; i < x.columns; ++i) squares += double{x.row(t)[i]} * x.row(t)[i];
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.columns) + epsilon);
    for (std::int64_t i = 0; i < x.columns; ++i) {
      y.row(t)[i] = x.row(t)[i] * scale * (weight == nullptr ? 1.0 : weight[i]);
    }
  }
}

void gated_rms_norm(RowsIn x, RowsIn gate, const float* weight, double epsilon, std::int64_t groups, GateOrder order,
                    RowsDouble y) {
  const bool gate_first = order == GateOrder::kGateThenNorm;
  const std::int64_t width = x.columns / groups;
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t begin = 0; begin < x.columns; begin += width) {
      double squares = 0.0;
      for (std::int64_t i = begin; i < begin + width; ++i) {
        const double v = x.row(t)[i] * (gate_first ? silu(gate.row(t)[i]) : 1.0);
        squares += v * v;
      }
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(width) + epsilon);
      for (std::int64_t i = begin; i < begin + width; ++i) {
        y.row(t)[i] = x.row(t)[i] * silu(gate.row(t)[i]) * scale * (weight == nullptr ? 1.0 : weight[i]);
      }
    }
  }
}

void conv1d_causal(const Conv1dCausal& conv, RowsIn x, std::span<double> window, RowsDouble y) {
  const std::int64_t channels = x.columns, kept = conv.width - 1;
  const auto input = [&](std::int64_t t, std::int64_t c) -> double {
    return t < 0 ? window[static_cast<std::size_t>((kept + t) * channels + c)] : x.row(t)[c];
  };
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = conv.bias == nullptr ? 0.0 : conv.bias[c];
      for (std::int64_t k = 0; k < conv.width; ++k) sum += conv.weight[k * channels + c] * input(t - kept + k, c);
      y.row(t)[c] = conv.silu ? silu(sum) : sum;
    }
  }
  std::vector<double> next(window.size());
  for (std::int64_t i = 0; i < kept; ++i) {
    for (std::int64_t c = 0; c < channels; ++c) {
      next[static_cast<std::size_t>(i * channels + c)] = input(x.rows - kept + i, c);
    }
  }
  std::copy(next.begin(), next.end(), window.begin());
}

}  // namespace krait::kernels::reference
