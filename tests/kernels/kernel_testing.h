// What the kernel tests share: every SIMD target in turn, random matrices with strides and misaligned starts, and
// comparison with an oracle within a bound given for each element.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "krait/core/random.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"
#include "krait/kernels/simd_target.h"
#include "tests/support/simd_targets.h"

namespace krait::tests {

// Half the distance from 1 to the next float: the relative error of one rounding.
inline constexpr double kRounding = 0x1p-24;
// Added to every bound: results in the subnormal range have no relative accuracy.
inline constexpr double kTiny = 1e-37;

// Lengths about the vector widths of every target (4, 8, 16 lanes).
inline const std::vector<std::int64_t> kLengths = {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 34, 66, 130};

// Runs the body on every SIMD target of this machine (on one alone where KRAIT_TARGET names it) and goes back to the
// one that was in use.
template <class Body>
void on_every_target(Body&& body) {
  for (const std::string& target : targets_under_test()) {
    SCOPED_TRACE("target " + target);
    ASSERT_TRUE(kernels::force_target(target));
    body();
  }
  ASSERT_TRUE(use_default_target());
}

// A matrix with `gap` unused floats between rows and a start off any alignment when offset is odd. The unused
// floats hold NaN, so that a kernel that reads them shows it, and check_gaps() sees one that writes them.
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::int64_t rows, std::int64_t columns, std::int64_t gap = 0, std::int64_t offset = 0)
      : rows_(rows),
        columns_(columns),
        stride_(columns + gap),
        offset_(offset),
        storage_(static_cast<std::size_t>(offset + rows * (columns + gap)), std::nanf("")) {
    fill([] { return 0.0; });
  }

  template <class Draw>
  void fill(Draw&& draw) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < columns_; ++c) at(r, c) = static_cast<float>(draw());
    }
  }
  void fill_normal(Random& random, double scale = 1.0) {
    fill([&] { return scale * random.normal(); });
  }
  void fill_uniform(Random& random, double low, double high) {
    fill([&] { return low + (high - low) * random.uniform(); });
  }

  float& at(std::int64_t r, std::int64_t c) { return storage_[static_cast<std::size_t>(offset_ + r * stride_ + c)]; }
  float at(std::int64_t r, std::int64_t c) const {
    return storage_[static_cast<std::size_t>(offset_ + r * stride_ + c)];
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  float* data() { return storage_.data() + offset_; }
  const float* data() const { return storage_.data() + offset_; }
  std::byte* bytes() { return reinterpret_cast<std::byte*>(data()); }

  kernels::RowsOut out() { return {data(), rows_, columns_, stride_}; }
  kernels::RowsIn in() const { return {data(), rows_, columns_, stride_}; }
  Matrix absolute() const {
    Matrix result = *this;
    for (float& v : result.storage_) v = std::fabs(v);
    return result;
  }

  void check_gaps() const {
    for (std::size_t i = 0; i < storage_.size(); ++i) {
      const std::int64_t from = static_cast<std::int64_t>(i) - offset_;
      if (from < 0 || from % std::max<std::int64_t>(1, stride_) >= columns_) {
        ASSERT_TRUE(std::isnan(storage_[i])) << "wrote between rows, at " << i;
      }
    }
  }

 private:
  std::int64_t rows_ = 0, columns_ = 0, stride_ = 0, offset_ = 0;
  std::vector<float> storage_;
};

// The oracle's results, dense.
class Expected {
 public:
  Expected(std::int64_t rows, std::int64_t columns)
      : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {}
  kernels::Rows<double> out() { return {values_.data(), rows_, columns_}; }
  double at(std::int64_t r, std::int64_t c) const { return values_[static_cast<std::size_t>(r * columns_ + c)]; }

 private:
  std::int64_t rows_, columns_;
  std::vector<double> values_;
};

// bound(r, c): how far apart they may be.
template <class Bound>
void expect_near(const Matrix& actual, const Expected& expected, Bound&& bound) {
  for (std::int64_t r = 0; r < actual.rows(); ++r) {
    for (std::int64_t c = 0; c < actual.columns(); ++c) {
      ASSERT_NEAR(actual.at(r, c), expected.at(r, c), bound(r, c) + kTiny) << "row " << r << ", column " << c;
    }
  }
}

inline void expect_same_bits(const Matrix& left, const Matrix& right) {
  for (std::int64_t r = 0; r < left.rows(); ++r) {
    for (std::int64_t c = 0; c < left.columns(); ++c) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(left.at(r, c)), std::bit_cast<std::uint32_t>(right.at(r, c)))
          << left.at(r, c) << " and " << right.at(r, c) << ", row " << r << ", column " << c;
    }
  }
}

// Sequences of several lengths in one call give what each gives by itself, to the bit, on any number of threads.
// `run(pool, sequences, y)` fills y [60, columns] from inputs of its own; every sequence starts from a copy of `state`.
template <class Run>
void expect_sequences_and_threads_do_not_matter(std::int64_t columns, const Matrix& state, Run&& run) {
  constexpr std::int64_t kRows = 60;
  const std::vector<std::int64_t> lengths = {1, 0, 17, 1, 2, 30, 9};
  std::vector<Matrix> first_result;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    std::vector<Matrix> states(lengths.size(), state);
    std::vector<kernels::SequenceRows> sequences;
    std::int64_t row = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      sequences.push_back({.first_row = row, .rows = lengths[i], .state = states[i].bytes()});
      row += lengths[i];
    }
    Matrix y(kRows, columns);
    run(pool, std::span<const kernels::SequenceRows>(sequences), y);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      Matrix alone(kRows, columns), alone_state = state;
      kernels::SequenceRows sequence = sequences[i];
      sequence.state = alone_state.bytes();
      run(pool, std::span<const kernels::SequenceRows>(&sequence, 1), alone);
      expect_same_bits(alone_state, states[i]);
      for (std::int64_t r = sequence.first_row; r < sequence.first_row + sequence.rows; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) ASSERT_EQ(alone.at(r, c), y.at(r, c));
      }
    }
    if (threads == 1) first_result.push_back(y);
    expect_same_bits(y, first_result.front());
  }
}

// A sequence cut in two anywhere gives the bits of the whole, in y and in the state.
// `run(pool, sequence, y)` fills y [rows, columns] from inputs of its own.
template <class Run>
void expect_a_cut_changes_no_bit(std::int64_t rows, std::int64_t columns, const Matrix& state, Run&& run) {
  ThreadPool pool(2);
  Matrix whole(rows, columns), whole_state = state;
  run(pool, kernels::SequenceRows{.first_row = 0, .rows = rows, .state = whole_state.bytes()}, whole);
  for (std::int64_t cut = 0; cut <= rows; ++cut) {
    Matrix y(rows, columns), cut_state = state;
    run(pool, kernels::SequenceRows{.first_row = 0, .rows = cut, .state = cut_state.bytes()}, y);
    run(pool, kernels::SequenceRows{.first_row = cut, .rows = rows - cut, .state = cut_state.bytes()}, y);
    expect_same_bits(y, whole);
    expect_same_bits(cut_state, whole_state);
  }
}

}  // namespace krait::tests
