#include "krait/kernels/reference/activation_backward.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace krait::kernels::reference {
namespace {

template <class Body>
void for_each(Rows<const double> x, Body&& body) {
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t i = 0; i < x.columns; ++i) body(t, i);
  }
}

double normal_cumulative(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

}  // namespace

double sigmoid_slope(double x) {
  const double u = std::exp(-std::fabs(x));
  return u / ((1.0 + u) * (1.0 + u));
}

double hyperbolic_tangent(double x) { return std::tanh(x); }
double hyperbolic_tangent_slope(double x) { return 4.0 * sigmoid_slope(2.0 * x); }

double relu(double x) { return std::max(x, 0.0); }
double relu_slope(double x) { return x > 0.0 ? 1.0 : 0.0; }

double squared_relu(double x) { return relu(x) * relu(x); }
double squared_relu_slope(double x) { return 2.0 * relu(x); }

double gelu(double x) { return x * normal_cumulative(x); }
double gelu_slope(double x) {
  return normal_cumulative(x) + x * std::exp(-0.5 * x * x) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
}

void apply(ScalarFunction function, Rows<const double> x, RowsDouble y) {
  for_each(x, [&](auto t, auto i) { y.row(t)[i] = function(x.row(t)[i]); });
}

void apply_backward(ScalarFunction slope, Rows<const double> x, Rows<const double> dy, RowsDouble dx) {
  for_each(x, [&](auto t, auto i) { dx.row(t)[i] = dy.row(t)[i] * slope(x.row(t)[i]); });
}

void gate_by(ScalarFunction function, Rows<const double> x, Rows<const double> gate, RowsDouble y) {
  for_each(x, [&](auto t, auto i) { y.row(t)[i] = x.row(t)[i] * function(gate.row(t)[i]); });
}

void gate_by_backward(ScalarFunction function, ScalarFunction slope, Rows<const double> x, Rows<const double> gate,
                      Rows<const double> dy, RowsDouble dx, RowsDouble dgate) {
  for_each(x, [&](auto t, auto i) {
    const double v = x.row(t)[i], z = gate.row(t)[i], d = dy.row(t)[i];
    dx.row(t)[i] = d * function(z);
    dgate.row(t)[i] = d * v * slope(z);
  });
}

void softplus(Rows<const double> x, const double* bias, double low, double high, RowsDouble y) {
  for_each(x, [&](auto t, auto i) {
    y.row(t)[i] = std::clamp(softplus(x.row(t)[i] + (bias == nullptr ? 0.0 : bias[i])), low, high);
  });
}

void softplus_backward(Rows<const double> x, const double* bias, double low, double high, Rows<const double> dy,
                       RowsDouble dx, double* dbias) {
  for_each(x, [&](auto t, auto i) {
    const double v = x.row(t)[i] + (bias == nullptr ? 0.0 : bias[i]), y = softplus(v);
    const double result = y >= low && y <= high ? dy.row(t)[i] * softplus_slope(v) : 0.0;
    dx.row(t)[i] = result;
    if (dbias != nullptr) dbias[i] += result;
  });
}

}  // namespace krait::kernels::reference
