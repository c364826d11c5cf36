#include "krait/train/data_mixture.h"

#include <gtest/gtest.h>

#include <cmath>

#include "krait/core/random.h"

namespace krait::train {
namespace {

// Tijdeman's bound: at every time each source is within 1 - 1/(2n - 2) of its share.
TEST(Mixture, KeepsSharesAtEveryTime) {
  Random random(5);
  for (const std::size_t n : {1U, 2U, 3U, 5U, 9U}) {
    std::vector<double> weights(n);
    for (double& weight : weights) weight = 0.01 + random.uniform();
    const Mixture mixture(weights);
    std::vector<std::uint64_t> taken(n, 0);
    const double bound = n == 1 ? 0 : 1 - 1 / (2 * static_cast<double>(n) - 2);
    for (int drawn = 1; drawn <= 5000; ++drawn) {
      ++taken[mixture.next(taken)];
      for (std::size_t s = 0; s < n; ++s) {
        // The bound holds in exact arithmetic; shares of 5,000 rows are off by a few of their unit roundoffs.
        ASSERT_LE(std::abs(static_cast<double>(taken[s]) - mixture.share(s) * drawn), bound + 5000 * 4 * 0x1p-53)
            << "source " << s << " of " << n << " after " << drawn;
      }
    }
  }
}

TEST(Mixture, KnowsRatiosOnly) {
  const Mixture mixture(std::vector<double>{3, 1});
  std::vector<std::uint64_t> taken(2, 0);
  std::vector<std::size_t> order;
  for (int i = 0; i < 8; ++i) {
    order.push_back(mixture.next(taken));
    ++taken[order.back()];
  }
  EXPECT_EQ(taken, (std::vector<std::uint64_t>{6, 2}));
  EXPECT_DOUBLE_EQ(mixture.share(0), 0.75);
}

}  // namespace
}  // namespace krait::train
