#include "krait/kernels/reference/rwkv7.h"

#include <algorithm>
#include <cmath>

namespace krait::kernels::reference {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

template <class Real>
void layer_norm(const LayerNormOf<Real>& norm, std::type_identity_t<Rows<const Real>> x, RowsDouble y) {
  const std::int64_t width = x.columns / norm.groups;
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t g = 0; g < norm.groups; ++g) {
      const std::int64_t begin = g * width, end = begin + width;
      double mean = 0.0, variance = 0.0;
      for (std::int64_t i = begin; i < end; ++i) mean += x.row(t)[i] / static_cast<double>(width);
      for (std::int64_t i = begin; i < end; ++i) {
        variance += (x.row(t)[i] - mean) * (x.row(t)[i] - mean) / static_cast<double>(width);
      }
      for (std::int64_t i = begin; i < end; ++i) {
        const double weight = norm.weight == nullptr ? 1.0 : norm.weight[i];
        const double bias = norm.bias == nullptr ? 0.0 : norm.bias[i];
        y.row(t)[i] = (x.row(t)[i] - mean) / std::sqrt(variance + double{norm.epsilon}) * weight + bias;
      }
    }
  }
}

template void layer_norm(const LayerNormOf<float>&, Rows<const float>, RowsDouble);
template void layer_norm(const LayerNormOf<double>&, Rows<const double>, RowsDouble);

void rwkv7_gates(const Rwkv7Gates& gates, RowsIn w, RowsIn a, RowsIn k, const Rwkv7GateResults& results) {
  const std::int64_t width = k.columns / gates.heads;
  for (std::int64_t t = 0; t < k.rows; ++t) {
    for (std::int64_t h = 0; h < gates.heads; ++h) {
      double squares = 0.0;
      for (std::int64_t i = h * width; i < (h + 1) * width; ++i) {
        const double removal = double{k.row(t)[i]} * gates.k_k[i];
        squares += removal * removal;
      }
      const double norm = std::max(std::sqrt(squares), 1e-12);
      for (std::int64_t i = h * width; i < (h + 1) * width; ++i) {
        const double rate = sigmoid(double{gates.a0[i]} + a.row(t)[i]);
        const double removal = double{k.row(t)[i]} * gates.k_k[i] / norm;
        results.w.row(t)[i] = std::exp(-std::exp(-0.5) * sigmoid(double{gates.w0[i]} + w.row(t)[i]));
        results.a.row(t)[i] = rate * removal;
        results.k.row(t)[i] = k.row(t)[i] * (1.0 + (rate - 1.0) * gates.k_a[i]);
        results.kappa.row(t)[i] = removal;
      }
    }
  }
}

void rwkv7_scan(const Rwkv7Scan& scan, const Rwkv7ScanInputs& in, std::span<double> state, RowsDouble y) {
  const std::int64_t width = scan.head_width;
  for (std::int64_t t = 0; t < y.rows; ++t) {
    for (std::int64_t h = 0; h < scan.heads; ++h) {
      const auto at = [&](RowsIn rows, std::int64_t i) -> double { return rows.row(t)[h * width + i]; };
      double* const s = state.data() + h * width * width;
      for (std::int64_t value = 0; value < width; ++value) {
        double removed = 0.0, sum = 0.0;
        for (std::int64_t key = 0; key < width; ++key) removed += s[key * width + value] * at(in.kappa, key);
        for (std::int64_t key = 0; key < width; ++key) {
          double& element = s[key * width + value];
          element = element * at(in.w, key) - removed * at(in.b, key) + at(in.v, value) * at(in.k, key);
          sum += element * at(in.r, key);
        }
        y.row(t)[h * width + value] = sum;
      }
    }
  }
}

}  // namespace krait::kernels::reference
