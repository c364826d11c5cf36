// What the tests of layers' gradients share beside wide_matrix.h: matrices filled by a function, and derivatives by
// central differences.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/wide_matrix.h"

namespace krait::tests {

template <class Value>
Matrix matrix_of(std::int64_t rows, std::int64_t columns, Value&& value) {
  Matrix result(rows, columns);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) result.at(r, c) = static_cast<float>(value(r, c));
  }
  return result;
}

// Derivatives of `loss()` by every value (or about 60 of many) are gradient[i]. Central differences with a step of
// eps^(1/3) are off by some eps^(2/3), 4e-11, of the size of the loss and of its derivatives up to the third.
template <class Loss>
void expect_derivatives(std::span<double> values, std::span<const double> gradient, Loss&& loss) {
  ASSERT_EQ(values.size(), gradient.size());
  double size = std::max(1.0, std::fabs(loss()));
  for (const double g : gradient) size = std::max(size, std::fabs(g));
  const std::size_t stride = std::max<std::size_t>(1, values.size() / 60);
  for (std::size_t i = 0; i < values.size(); i += stride) {
    const double before = values[i], step = 6e-6;
    values[i] = before + step;
    const double above = loss();
    values[i] = before - step;
    const double below = loss();
    values[i] = before;
    ASSERT_NEAR((above - below) / (2.0 * step), gradient[i], 4e-9 * size) << "derivative " << i;
  }
}

// sum of up * y: a loss whose gradient by y is up.
inline double weighted_sum(const WideMatrix& up, const WideMatrix& y) {
  double sum = 0.0;
  for (std::size_t i = 0; i < y.values().size(); ++i) sum += up.values()[i] * y.values()[i];
  return sum;
}

}  // namespace krait::tests
