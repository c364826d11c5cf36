#include "krait/server/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace krait::server {
namespace {

using Vector = std::array<double, 3>;
using Matrix = std::array<Vector, 3>;

// The minimum of x^T A x / 2 - b^T x over the coordinates of `free` (a set of bits), the others zero. Gauss-Jordan with
// pivots from the diagonal, which is enough for a positive definite A.
Vector minimum(Matrix a, Vector b, unsigned free) {
  Vector x = {};
  for (std::size_t pivot = 0; pivot < 3; ++pivot) {
    if ((free >> pivot & 1U) == 0) continue;
    for (std::size_t row = 0; row < 3; ++row) {
      if (row == pivot || (free >> row & 1U) == 0) continue;
      const double factor = a[row][pivot] / a[pivot][pivot];
      for (std::size_t column = 0; column < 3; ++column) a[row][column] -= factor * a[pivot][column];
      b[row] -= factor * b[pivot];
    }
  }
  for (std::size_t i = 0; i < 3; ++i) {
    if ((free >> i & 1U) != 0) x[i] = b[i] / a[i][i];
  }
  return x;
}

double objective(const Matrix& a, const Vector& b, const Vector& x) {
  double value = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) value += x[i] * a[i][j] * x[j] / 2;
    value -= b[i] * x[i];
  }
  return value;
}

// Holds each coefficient where it was while steps say nothing of it (decodes alone know nothing of prompts, and what
// was learnt of those fades), and keeps the matrix invertible. A hundredth of a step that cost one coefficient alone.
constexpr double kInertia = 1e-2;

}  // namespace

CostModel::CostModel(const Line& prior) : prior_(prior), line_(prior) {}

void CostModel::observe(const StepShape& shape, double seconds) {
  if (!(seconds > 0) || !std::isfinite(seconds)) return;
  const Vector x = {1 / seconds, static_cast<double>(shape.decodes) / seconds,
                    static_cast<double>(shape.prompt_tokens) / seconds};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) squares_[i][j] = kKeep * squares_[i][j] + x[i] * x[j];
    products_[i] = kKeep * products_[i] + x[i];
  }
  solve();
}

void CostModel::solve() {
  // In units of the prior, so that all unknowns are about 1 and the matrix is well conditioned.
  const Vector unit = {prior_.base, prior_.row, prior_.token};
  Matrix a;
  Vector b;
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) a[i][j] = squares_[i][j] * unit[i] * unit[j];
    b[i] = products_[i] * unit[i];
  }
  const Vector before = {line_.base / unit[0], line_.row / unit[1], line_.token / unit[2]};
  for (std::size_t i = 0; i < 3; ++i) {
    a[i][i] += kInertia;
    b[i] += kInertia * before[i];
  }
  Vector best = {};
  double least = std::numeric_limits<double>::infinity();
  for (unsigned free = 0; free < 8; ++free) {
    const Vector x = minimum(a, b, free);
    if (std::ranges::any_of(x, [](double value) { return !(value >= 0); })) continue;
    if (const double value = objective(a, b, x); value < least) {
      least = value;
      best = x;
    }
  }
  line_ = {.base = best[0] * unit[0], .row = best[1] * unit[1], .token = best[2] * unit[2]};
}

}  // namespace krait::server
