// What the tests of backward kernels share: inputs in double, and gradients held against central differences.
#pragma once

#include "tests/kernels/kernel_testing.h"

namespace krait::tests {

inline Expected in_double(const Matrix& from) {
  Expected result(from.rows(), from.columns());
  for (std::int64_t r = 0; r < from.rows(); ++r) {
    for (std::int64_t c = 0; c < from.columns(); ++c) result.out().row(r)[c] = double{from.at(r, c)};
  }
  return result;
}

// gradient is the derivative of loss(), which reads `values`, by each of them. Central differences are off by h^2 of
// the third derivative and by a rounding over h, each some 1e-10 of numbers of size 1.
template <class Loss>
void expect_derivative(Expected& values, const Expected& gradient, Loss&& loss) {
  constexpr double kStep = 1e-5;
  const kernels::Rows<double> rows = values.out();
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    for (std::int64_t c = 0; c < rows.columns; ++c) {
      double& value = rows.row(r)[c];
      const double before = value;
      value = before + kStep;
      const double above = loss();
      value = before - kStep;
      const double below = loss();
      value = before;
      ASSERT_NEAR((above - below) / (2.0 * kStep), gradient.at(r, c), 1e-8) << "row " << r << ", column " << c;
    }
  }
}

// sum of weights * values, as the loss of a test.
inline double weighted_sum(const Expected& values, const Matrix& weights) {
  double sum = 0.0;
  for (std::int64_t r = 0; r < weights.rows(); ++r) {
    for (std::int64_t c = 0; c < weights.columns(); ++c) sum += values.at(r, c) * double{weights.at(r, c)};
  }
  return sum;
}

}  // namespace krait::tests
