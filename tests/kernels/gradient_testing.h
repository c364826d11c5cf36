// What the tests of backward kernels share: matrices in double, derivatives by central differences, and comparison
// within a fraction of the largest element.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "tests/kernels/kernel_testing.h"

namespace krait::tests {

// Dense.
class Doubles {
 public:
  Doubles() = default;
  Doubles(std::int64_t rows, std::int64_t columns)
      : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {}
  template <class Floats>
  explicit Doubles(const Floats& from) : Doubles(from.rows(), from.columns()) {
    fill([&](auto r, auto c) { return double{from.at(r, c)}; });
  }
  template <class Value>
  void fill(Value&& value) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < columns_; ++c) at(r, c) = value(r, c);
    }
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  double& at(std::int64_t r, std::int64_t c) { return values_[static_cast<std::size_t>(r * columns_ + c)]; }
  double at(std::int64_t r, std::int64_t c) const { return values_[static_cast<std::size_t>(r * columns_ + c)]; }
  double* data() { return values_.data(); }
  const double* data() const { return values_.data(); }
  std::vector<double>& values() { return values_; }
  const std::vector<double>& values() const { return values_; }
  kernels::Rows<double> out() { return {data(), rows_, columns_}; }
  kernels::Rows<const double> in() const { return {data(), rows_, columns_}; }
  double largest() const {
    double result = 0.0;
    for (const double v : values_) result = std::max(result, std::fabs(v));
    return result;
  }

 private:
  std::int64_t rows_ = 0, columns_ = 0;
  std::vector<double> values_;
};

// A matrix whose rows may stand from the last to the first: then what kernels get of it has a negative stride.
class RowsMatrix : public Matrix {
 public:
  RowsMatrix(std::int64_t rows, std::int64_t columns, std::int64_t gap = 0, std::int64_t offset = 0,
             bool backwards = false)
      : Matrix(rows, columns, gap, offset), backwards_(backwards && rows > 0) {}

  float& at(std::int64_t r, std::int64_t c) { return Matrix::at(backwards_ ? rows() - 1 - r : r, c); }
  float at(std::int64_t r, std::int64_t c) const { return Matrix::at(backwards_ ? rows() - 1 - r : r, c); }
  kernels::RowsOut out() { return turned(Matrix::out()); }
  kernels::RowsIn in() const { return turned(Matrix::in()); }

 private:
  template <class T>
  kernels::Rows<T> turned(kernels::Rows<T> rows) const {
    if (!backwards_) return rows;
    return {rows.row(rows.rows - 1), rows.rows, rows.columns, -rows.stride};
  }

  bool backwards_;
};

inline RowsMatrix narrowed(const Doubles& from, std::int64_t gap = 0, std::int64_t offset = 0, bool backwards = false) {
  RowsMatrix result(from.rows(), from.columns(), gap, offset, backwards);
  for (std::int64_t r = 0; r < from.rows(); ++r) {
    for (std::int64_t c = 0; c < from.columns(); ++c) result.at(r, c) = static_cast<float>(from.at(r, c));
  }
  return result;
}

// How a test calls a backward kernel.
struct HowCalled {
  bool backwards = false;  // rows stand from the last to the first
  bool bare = false;       // no gradients of parameters and states, neither asked for nor given
};

// value(r, c) against expected(r, c), within `fraction` of the expected's largest element.
template <class Actual>
void expect_within(const Actual& actual, const Doubles& expected, double fraction, const std::string& what) {
  const double bound = fraction * expected.largest() + kTiny;
  for (std::int64_t r = 0; r < expected.rows(); ++r) {
    for (std::int64_t c = 0; c < expected.columns(); ++c) {
      ASSERT_NEAR(actual.at(r, c), expected.at(r, c), bound) << what << ", row " << r << ", column " << c;
    }
  }
}

// The gradient of every element of `value` against differences of loss() over four points: with steps of 1e-3 the
// fifth derivative leaves 1e-12 / 30 of itself, and roundings of the loss 1.5e-13 of it; 1e-8 of the largest of the
// gradient and the loss is above both unless a fifth derivative is thousands of times larger.
inline void expect_derivatives(const std::string& what, double* value, std::int64_t count, const double* gradient,
                               const std::function<double()>& loss) {
  constexpr double kStep = 1e-3;
  double largest = std::fabs(loss());
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(gradient[i]));
  for (std::int64_t i = 0; i < count; ++i) {
    const double middle = value[i];
    const auto at = [&](double steps) {
      value[i] = middle + steps * kStep;
      return loss();
    };
    const double slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * kStep);
    value[i] = middle;
    ASSERT_NEAR(gradient[i], slope, 1e-8 * largest) << what << ", element " << i;
  }
}

}  // namespace krait::tests
