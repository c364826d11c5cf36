// What tests of backward kernels share beside kernel_testing.h: matrices of double for the references, and derivatives
// by central differences.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "tests/kernels/kernel_testing.h"

namespace krait::tests {

// A dense matrix of double, widened from one of float or filled by the test.
class WideMatrix {
 public:
  WideMatrix() = default;
  WideMatrix(std::int64_t rows, std::int64_t columns)
      : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {}
  explicit WideMatrix(const Matrix& from) : WideMatrix(from.rows(), from.columns()) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < columns_; ++c) at(r, c) = from.at(r, c);
    }
  }

  void fill_normal(Random& random, double scale = 1.0) {
    for (double& v : values_) v = scale * random.normal();
  }
  double& at(std::int64_t r, std::int64_t c) { return values_[static_cast<std::size_t>(r * columns_ + c)]; }
  double at(std::int64_t r, std::int64_t c) const { return values_[static_cast<std::size_t>(r * columns_ + c)]; }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  double* data() { return values_.data(); }
  const double* data() const { return values_.data(); }
  kernels::Rows<double> out() { return {values_.data(), rows_, columns_}; }
  kernels::Rows<const double> in() const { return {values_.data(), rows_, columns_}; }
  std::vector<double>& values() { return values_; }
  const std::vector<double>& values() const { return values_; }
  double largest() const {
    double result = 0.0;
    for (const double v : values_) result = std::max(result, std::fabs(v));
    return result;
  }

 private:
  std::int64_t rows_ = 0, columns_ = 0;
  std::vector<double> values_;
};

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
