// What the tests of the scans' gradients share. Such a test has a struct `Values` of matrices, which are inputs or
// their gradients, listed as parts with names, and a struct `Case` whose `in` are the inputs.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/wide_matrix.h"

namespace krait::tests {

template <class Values>
struct GradientPart {
  const char* name;
  WideMatrix Values::* value;
};

template <class Parts, class Values>
Values zeros_like(const Parts& parts, const Values& of) {
  Values result;
  for (const auto& part : parts) {
    result.*part.value = WideMatrix((of.*part.value).rows(), (of.*part.value).columns());
  }
  return result;
}

// Drawn as floats, so that a kernel gets the oracle's numbers.
inline void draw(WideMatrix& m, Random& random, double low, double high) {
  for (double& v : m.values()) v = static_cast<float>(low + (high - low) * random.uniform());
}

// Sequences one after the other.
inline std::vector<kernels::SequenceRows> in_a_row(const std::vector<std::int64_t>& lengths) {
  std::vector<kernels::SequenceRows> result;
  std::int64_t rows = 0;
  for (const std::int64_t length : lengths) {
    result.push_back({.first_row = rows, .rows = length, .state = nullptr});
    rows += length;
  }
  return result;
}

inline double inner_product(const WideMatrix& left, const WideMatrix& right) {
  double sum = 0.0;
  for (std::size_t i = 0; i < left.values().size(); ++i) sum += left.values()[i] * right.values()[i];
  return sum;
}

// A sequence's rows of a matrix that may be absent.
template <class T>
kernels::Rows<T> cut(kernels::Rows<T> rows, const kernels::SequenceRows& sequence) {
  return rows.rows == 0 ? kernels::Rows<T>() : rows.slice_rows(sequence.first_row, sequence.rows);
}

// Floats with gaps between rows, off any alignment; `reversed` numbers the rows from the last.
class StridedFloats {
 public:
  StridedFloats(const WideMatrix& from, std::int64_t gap, std::int64_t offset, bool reversed = false)
      : matrix_(from.rows(), from.columns(), gap, offset), reversed_(reversed) {
    for (std::int64_t r = 0; r < from.rows(); ++r) {
      for (std::int64_t c = 0; c < from.columns(); ++c) matrix_.at(place(r), c) = static_cast<float>(from.at(r, c));
    }
  }
  kernels::RowsOut out() {
    const kernels::RowsOut rows = matrix_.out();
    if (rows.columns == 0) return {};
    return reversed_ ? kernels::RowsOut(rows.row(rows.rows - 1), rows.rows, rows.columns, -rows.stride) : rows;
  }
  kernels::RowsIn in() { return out(); }
  // The state of sequence `index`, where the rows are those of states one after the other.
  std::byte* state(std::size_t index, std::size_t size) {
    return reinterpret_cast<std::byte*>(matrix_.data() + index * size);
  }
  float* data() { return matrix_.data(); }
  const Matrix& matrix() const { return matrix_; }
  WideMatrix widened() const {
    WideMatrix result(matrix_.rows(), matrix_.columns());
    for (std::int64_t r = 0; r < result.rows(); ++r) {
      for (std::int64_t c = 0; c < result.columns(); ++c) result.at(r, c) = matrix_.at(place(r), c);
    }
    return result;
  }

 private:
  std::int64_t place(std::int64_t r) const { return reversed_ ? matrix_.rows() - 1 - r : r; }
  Matrix matrix_;
  bool reversed_;
};

// Each element within `factor` of its magnitude.
template <class Parts, class Values>
void expect_within(const Parts& parts, const Values& actual, const Values& expected, const Values& magnitude,
                   double factor) {
  for (const auto& part : parts) {
    SCOPED_TRACE(part.name);
    const auto &values = (actual.*part.value).values(), &right = (expected.*part.value).values();
    const auto& size = (magnitude.*part.value).values();
    ASSERT_EQ(values.size(), right.size());
    for (std::size_t i = 0; i < right.size(); ++i) {
      ASSERT_NEAR(values[i], right[i], factor * size[i] + kTiny) << "at " << i;
    }
  }
}

// Each element within `tolerance` of its matrix's largest.
template <class Parts, class Values>
void expect_relative(const Parts& parts, const Values& actual, const Values& expected, double tolerance) {
  for (const auto& part : parts) {
    SCOPED_TRACE(part.name);
    const WideMatrix &right = expected.*part.value, &left = actual.*part.value;
    for (std::size_t i = 0; i < right.values().size(); ++i) {
      const double value = left.values()[i], other = right.values()[i];
      ASSERT_LE(std::fabs(value - other), tolerance * right.largest()) << value << " versus " << other << " at " << i;
    }
  }
}

// run(pool, reversed, bits) gives the gradients, and in `bits` their matrices: the same on any number of threads, and
// where the rows are numbered from the last.
template <class Parts, class Run>
void expect_threads_and_reversal_change_no_bit(const Parts& parts, Run&& run) {
  std::vector<Matrix> first;
  ThreadPool one(1);
  const auto forwards = run(one, false, &first);
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    std::vector<Matrix> bits;
    run(pool, false, &bits);
    for (std::size_t i = 0; i < bits.size(); ++i) expect_same_bits(bits[i], first[i]);
  }
  const auto backwards = run(one, true, nullptr);
  for (const auto& part : parts) ASSERT_EQ((forwards.*part.value).values(), (backwards.*part.value).values());
}

// The derivatives of loss(case) by every input, of fourth order: off by h^4 / 30 = 5e-13 of the fifth derivative, which
// the caller keeps within some hundreds of the first, and by rounding, 1.5 eps / h = 1e-13 of the loss's terms.
template <class Parts, class Case, class Values, class Loss>
void expect_central_differences(const Parts& parts, const Case& of, const Values& gradients, Loss&& loss) {
  constexpr double kH = 0x1p-9;
  for (const auto& part : parts) {
    SCOPED_TRACE(part.name);
    const WideMatrix& expected = gradients.*part.value;
    const double scale = std::max(1.0, expected.largest());
    for (std::size_t i = 0; i < expected.values().size(); ++i) {
      Case moved = of;
      double& v = (moved.in.*part.value).values()[i];
      const double at = v;
      const auto loss_at = [&](double step) {
        v = at + step * kH;
        return loss(moved);
      };
      const double slope = (8.0 * (loss_at(1.0) - loss_at(-1.0)) - (loss_at(2.0) - loss_at(-2.0))) / (12.0 * kH);
      ASSERT_NEAR(expected.values()[i], slope, 1e-9 * scale) << "at " << i;
    }
  }
}

}  // namespace krait::tests
