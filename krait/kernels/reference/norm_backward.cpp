#include "krait/kernels/reference/norm_backward.h"

#include <cmath>
#include <span>
#include <vector>

#include "krait/kernels/reference/elementwise.h"

namespace krait::kernels::reference {
namespace {

// du of n = u r, r = 1 / sqrt(mean(u^2) + epsilon), given the gradient g of n; leaves n in u.
void normalise_back(double epsilon, std::span<double> u, std::span<const double> g, std::span<double> du) {
  const auto count = static_cast<double>(u.size());
  double squares = 0.0, products = 0.0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    squares += u[i] * u[i];
    products += g[i] * u[i];
  }
  const double r = 1.0 / std::sqrt(squares / count + epsilon);
  for (std::size_t i = 0; i < u.size(); ++i) {
    du[i] = r * (g[i] - u[i] * r * r * products / count);
    u[i] *= r;
  }
}

}  // namespace

void rms_norm_backward(Rows<const double> x, const double* weight, double epsilon, Rows<const double> dy,
                       Rows<const double> dresidual, const RmsNormGradientsOf<double>& gradients) {
  std::vector<double> u(static_cast<std::size_t>(x.columns)), g(u), du(u);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::size_t i = 0; i < u.size(); ++i) {
      u[i] = x.row(t)[i];
      g[i] = dy.row(t)[i] * (weight == nullptr ? 1.0 : weight[i]);
    }
    normalise_back(epsilon, u, g, du);
    for (std::size_t i = 0; i < u.size(); ++i) {
      if (gradients.weight != nullptr) gradients.weight[i] += dy.row(t)[i] * u[i];
      gradients.x.row(t)[i] = du[i] + (dresidual.empty() ? 0.0 : dresidual.row(t)[i]);
    }
  }
}

void gated_rms_norm_backward(Rows<const double> x, Rows<const double> gate, const double* weight, double epsilon,
                             std::int64_t groups, GateOrder order, Rows<const double> dy,
                             const GatedRmsNormGradientsOf<double>& gradients) {
  const bool gate_first = order == GateOrder::kGateThenNorm;
  const std::int64_t width = x.columns / groups;
  std::vector<double> u(static_cast<std::size_t>(width)), g(u), du(u), inputs(u), ups(u);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t begin = 0; begin < x.columns; begin += width) {
      for (std::size_t i = 0; i < u.size(); ++i) {
        const std::int64_t at = begin + static_cast<std::int64_t>(i);
        const double factor = silu(gate.row(t)[at]);
        inputs[i] = x.row(t)[at];
        ups[i] = dy.row(t)[at];
        u[i] = inputs[i] * (gate_first ? factor : 1.0);
        g[i] = ups[i] * (weight == nullptr ? 1.0 : weight[at]) * (gate_first ? 1.0 : factor);
      }
      normalise_back(epsilon, u, g, du);
      for (std::size_t i = 0; i < u.size(); ++i) {
        const std::int64_t at = begin + static_cast<std::int64_t>(i);
        const double z = gate.row(t)[at], w = weight == nullptr ? 1.0 : weight[at];
        if (gradients.weight != nullptr) gradients.weight[at] += ups[i] * u[i] * (gate_first ? 1.0 : silu(z));
        gradients.x.row(t)[at] = du[i] * (gate_first ? silu(z) : 1.0);
        gradients.gate.row(t)[at] = silu_slope(z) * (gate_first ? du[i] * inputs[i] : ups[i] * w * u[i]);
      }
    }
  }
}

void layer_norm_backward(const LayerNormOf<double>& norm, Rows<const double> x, Rows<const double> dy,
                         const LayerNormGradientsOf<double>& gradients) {
  const std::int64_t width = x.columns / norm.groups;
  const auto count = static_cast<double>(width);
  std::vector<double> n(static_cast<std::size_t>(width)), ups(n);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t begin = 0; begin < x.columns; begin += width) {
      double mean = 0.0, variance = 0.0, mean_gradient = 0.0, mean_product = 0.0;
      for (std::int64_t i = begin; i < begin + width; ++i) mean += x.row(t)[i] / count;
      for (std::int64_t i = begin; i < begin + width; ++i) variance += std::pow(x.row(t)[i] - mean, 2) / count;
      const double r = 1.0 / std::sqrt(variance + norm.epsilon);
      const auto weight = [&](std::size_t i) {
        return norm.weight == nullptr ? 1.0 : norm.weight[begin + static_cast<std::int64_t>(i)];
      };
      for (std::size_t i = 0; i < n.size(); ++i) {
        const std::int64_t at = begin + static_cast<std::int64_t>(i);
        n[i] = (x.row(t)[at] - mean) * r;
        ups[i] = dy.row(t)[at];
        mean_gradient += ups[i] * weight(i) / count;
        mean_product += ups[i] * weight(i) * n[i] / count;
      }
      for (std::size_t i = 0; i < n.size(); ++i) {
        const std::int64_t at = begin + static_cast<std::int64_t>(i);
        if (gradients.weight != nullptr) gradients.weight[at] += ups[i] * n[i];
        if (gradients.bias != nullptr) gradients.bias[at] += ups[i];
        gradients.x.row(t)[at] = r * (ups[i] * weight(i) - mean_gradient - n[i] * mean_product);
      }
    }
  }
}

}  // namespace krait::kernels::reference
