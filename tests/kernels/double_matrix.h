// Matrices of double for oracles that take double inputs, and central differences through them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/kernel_testing.h"

namespace krait::tests {

class DoubleMatrix {
 public:
  DoubleMatrix() = default;
  DoubleMatrix(std::int64_t rows, std::int64_t columns)
      : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {}
  explicit DoubleMatrix(const Matrix& m) : DoubleMatrix(m.rows(), m.columns()) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < columns_; ++c) at(r, c) = m.at(r, c);
    }
  }

  void clear() { values_.assign(values_.size(), 0.0); }
  template <class Draw>
  void fill(Draw&& draw) {
    for (double& v : values_) v = draw();
  }
  double& at(std::int64_t r, std::int64_t c) { return values_[static_cast<std::size_t>(r * columns_ + c)]; }
  double at(std::int64_t r, std::int64_t c) const { return values_[static_cast<std::size_t>(r * columns_ + c)]; }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  double* data() { return values_.data(); }
  const double* data() const { return values_.data(); }
  kernels::Rows<double> out() { return {values_.data(), rows_, columns_}; }
  kernels::Rows<const double> in() const { return {values_.data(), rows_, columns_}; }

 private:
  std::int64_t rows_ = 0, columns_ = 0;
  std::vector<double> values_;
};

inline double largest_of(const DoubleMatrix& m) {
  double largest = 0.0;
  for (std::int64_t r = 0; r < m.rows(); ++r) {
    for (std::int64_t c = 0; c < m.columns(); ++c) largest = std::max(largest, std::fabs(m.at(r, c)));
  }
  return largest;
}

// The loss whose gradient by `right` is `left`: the sum of products element by element.
inline double dot(const DoubleMatrix& left, const DoubleMatrix& right) {
  double sum = 0.0;
  for (std::int64_t r = 0; r < left.rows(); ++r) {
    for (std::int64_t c = 0; c < left.columns(); ++c) sum += left.at(r, c) * right.at(r, c);
  }
  return sum;
}

// The kernel's gradient against the oracle's, each element within rounding once and `share` of the largest of the
// whole, and `floor` where all is nothing.
inline void expect_gradient_near(const Matrix& actual, const DoubleMatrix& expected, double share, double floor,
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
void expect_gradient_is_difference(DoubleMatrix& value, const DoubleMatrix& gradient, double step, double tolerance,
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
