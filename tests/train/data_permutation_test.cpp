#include "krait/train/data_permutation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace krait::train {
namespace {

TEST(Permutation, VisitsEverythingOnce) {
  for (const std::int64_t count : {1, 2, 3, 4, 5, 7, 8, 9, 10, 99, 100, 101, 1000, 65537}) {
    const Permutation permutation(count, 1, 2);
    std::vector<bool> seen(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t at = permutation(i);
      ASSERT_GE(at, 0);
      ASSERT_LT(at, count);
      ASSERT_FALSE(seen[static_cast<std::size_t>(at)]) << at << " twice of " << count;
      seen[static_cast<std::size_t>(at)] = true;
    }
  }
}

TEST(Permutation, ReachesFarPlacesOfHugeOnes) {
  const std::int64_t count = std::int64_t{1} << 50;
  const Permutation permutation(count, 3, 0);
  std::int64_t above = 0;
  for (std::int64_t i = 0; i < 1000; ++i) {
    ASSERT_LT(permutation(i), count);
    above += permutation(i) >= count / 2 ? 1 : 0;
  }
  // Of 1000 fair coins, 5 standard deviations of sqrt(1000) / 2.
  EXPECT_NEAR(static_cast<double>(above), 500, 5 * std::sqrt(1000.0) / 2);
}

TEST(Permutation, DiffersByEpochAndSeedAndRepeats) {
  const auto order = [](std::uint64_t seed, std::uint64_t epoch) {
    const Permutation permutation(50, seed, epoch);
    std::vector<std::int64_t> order;
    for (std::int64_t i = 0; i < 50; ++i) order.push_back(permutation(i));
    return order;
  };
  EXPECT_EQ(order(7, 1), order(7, 1));
  EXPECT_NE(order(7, 1), order(7, 2));
  EXPECT_NE(order(7, 1), order(8, 1));
}

// Over many epochs each place must hold each row equally often, and neighbours must part: chi-square over the table of
// counts, which has (n-1)^2 degrees of freedom, mean (n-1)^2 and variance 2 (n-1)^2.
TEST(Permutation, IsUniformOverEpochs) {
  for (const std::int64_t n : {3, 10, 23}) {
    constexpr int kEpochs = 20000;
    std::vector<double> counts(static_cast<std::size_t>(n * n));
    double neighbours = 0;
    for (int epoch = 0; epoch < kEpochs; ++epoch) {
      const Permutation permutation(n, 11, static_cast<std::uint64_t>(epoch));
      std::int64_t before = -2;
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t at = permutation(i);
        ++counts[static_cast<std::size_t>(i * n + at)];
        neighbours += at == before + 1 ? 1 : 0;
        before = at;
      }
    }
    const double expected = static_cast<double>(kEpochs) / static_cast<double>(n);
    double chi_square = 0;
    for (const double count : counts) chi_square += (count - expected) * (count - expected) / expected;
    const double freedom = static_cast<double>((n - 1) * (n - 1));
    EXPECT_LT(chi_square, freedom + 5 * std::sqrt(2 * freedom)) << n;
    // Each of the n - 1 pairs of neighbouring places holds rows r, r + 1 with probability 1 / n: in all, once less 1/n
    // an epoch with variance below 1.
    EXPECT_NEAR(neighbours / kEpochs, static_cast<double>(n - 1) / static_cast<double>(n), 5 / std::sqrt(kEpochs)) << n;
  }
}

}  // namespace
}  // namespace krait::train
