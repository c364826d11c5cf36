#include "krait/kernels/running_mean.h"

#include <numeric>

#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

std::vector<std::int64_t> count_from(std::int64_t first, std::int64_t rows) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(rows));
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

// By the definition: the mean of all rows up to this one, and this one less the mean of those before it.
TEST(RunningMean, IsTheMeanOfAllRowsSoFar) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t columns : tests::kLengths) {
      constexpr std::int64_t kRows = 40;
      Matrix x(kRows, columns, 3, 1), centred(kRows, columns, 1), mean(kRows, columns, 2, 1), state(1, columns);
      x.fill_normal(random);
      Expected expected_mean(kRows, columns), expected_centred(kRows, columns), bound(kRows, columns);
      for (std::int64_t c = 0; c < columns; ++c) {
        double sum = 0.0, error = 0.0, largest = 0.0;
        for (std::int64_t t = 0; t < kRows; ++t) {
          const double before = t == 0 ? 0.0 : sum / static_cast<double>(t), value = x.at(t, c);
          sum += value;
          largest = std::max(largest, std::fabs(value));
          expected_centred.out().row(t)[c] = value - before;
          expected_mean.out().row(t)[c] = sum / static_cast<double>(t + 1);
          // An error of the mean stays as t / (t + 1) of itself; the difference, the quotient and the sum are rounded,
          // none of them above twice the largest value.
          error = error * static_cast<double>(t) / static_cast<double>(t + 1) + 6.0 * kRounding * largest;
          bound.out().row(t)[c] = 1.01 * error;
        }
      }
      const SequenceRows sequence{.first_row = 0, .rows = kRows, .state = state.bytes()};
      running_mean(pool, x.in(), count_from(0, kRows), {&sequence, 1}, centred.out(), mean.out());
      tests::expect_near(mean, expected_mean, [&](auto r, auto c) { return bound.at(r, c); });
      tests::expect_near(centred, expected_centred, [&](auto r, auto c) { return bound.at(r, c); });
      centred.check_gaps();
      mean.check_gaps();
      for (std::int64_t c = 0; c < columns; ++c) EXPECT_EQ(state.at(0, c), mean.at(kRows - 1, c));
    }
  });
}

TEST(RunningMean, SplitAnywhereGivesTheSameBits) {
  on_every_target([&] {
    Random random(2);
    Matrix x(23, 19), mean(23, 19);
    x.fill_normal(random);
    tests::expect_a_cut_changes_no_bit(
        23, 19, Matrix(1, 19), [&](ThreadPool& pool, const SequenceRows& sequence, Matrix& y) {
          running_mean(pool, x.in(), count_from(0, 23), {&sequence, 1}, y.out(), mean.out());
        });
  });
}

}  // namespace
}  // namespace krait::kernels
