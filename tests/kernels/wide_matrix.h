// What tests of backward kernels share beside kernel_testing.h: matrices of double for the references.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
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

  void clear() { values_.assign(values_.size(), 0.0); }
  template <class Draw>
  void fill(Draw&& draw) {
    for (double& v : values_) v = draw();
  }
  void fill_normal(Random& random, double scale = 1.0) {
    fill([&] { return scale * random.normal(); });
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

}  // namespace krait::tests
