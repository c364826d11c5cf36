// Losses over matrices of double, and central differences through oracles that take them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/wide_matrix.h"

namespace krait::tests {

inline double largest_of(const WideMatrix& m) { return m.largest(); }

// The loss whose gradient by `right` is `left`: the sum of products element by element.
inline double dot(const WideMatrix& left, const WideMatrix& right) {
  double sum = 0.0;
  for (std::int64_t r = 0; r < left.rows(); ++r) {
    for (std::int64_t c = 0; c < left.columns(); ++c) sum += left.at(r, c) * right.at(r, c);
  }
  return sum;
}

// The kernel's gradient against the oracle's, each element within rounding once and `share` of the largest of the
// whole, and `floor` where all is nothing.
inline void expect_gradient_near(const Matrix& actual, const WideMatrix& expected, double share, double floor,
                                 const char* name) {
  const double largest = largest_of(expected);
  for (std::int64_t r = 0; r < expected.rows(); ++r) {
    for (std::int64_t c = 0; c < expected.columns(); ++c) {
      ASSERT_NEAR(actual.at(r, c), expected.at(r, c),
                  kRounding * std::fabs(expected.at(r, c)) + share * largest + floor)
          << "gradient of " << name << ", row " << r << ", column " << c;
    }
  }
}

// Each element of `gradient` against (loss(v + step) - loss(v - step)) / (2 step) of that element of `value`, within
// `tolerance` of the largest of either and 1. The caller says what step and tolerance the loss's third derivative and
// rounding allow.
template <class Loss>
void expect_gradient_is_difference(WideMatrix& value, const WideMatrix& gradient, double step, double tolerance,
                                   Loss&& loss) {
  for (std::int64_t r = 0; r < value.rows(); ++r) {
    for (std::int64_t c = 0; c < value.columns(); ++c) {
      const double before = value.at(r, c);
      value.at(r, c) = before + step;
      const double above = loss();
      value.at(r, c) = before - step;
      const double below = loss();
      value.at(r, c) = before;
      const double difference = (above - below) / (2.0 * step);
      ASSERT_NEAR(gradient.at(r, c), difference,
                  tolerance * std::max({1.0, std::fabs(difference), std::fabs(gradient.at(r, c))}))
          << "row " << r << ", column " << c;
    }
  }
}

}  // namespace krait::tests
