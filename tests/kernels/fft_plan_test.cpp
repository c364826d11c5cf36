#include "krait/kernels/fft_plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace krait::kernels {
namespace {

TEST(FftPlan, GoodLengthsAreEvenAndHaveSmallFactors) {
  EXPECT_EQ(good_fft_length(0), 2);
  EXPECT_EQ(good_fft_length(2), 2);
  EXPECT_EQ(good_fft_length(3), 4);
  EXPECT_EQ(good_fft_length(7), 8);
  EXPECT_EQ(good_fft_length(13), 16);
  EXPECT_EQ(good_fft_length(15), 16);  // 15 itself is odd
  EXPECT_EQ(good_fft_length(1999), 2000);
  EXPECT_EQ(good_fft_length(2047), 2048);
  EXPECT_EQ(good_fft_length(32767), 32768);
}

TEST(FftPlan, StagesMultiplyToThePointsAndPositionsArePermuted) {
  for (const std::int64_t length : {2, 4, 6, 8, 10, 30, 60, 64, 128, 750, 2000}) {
    const FftPlan plan(length);
    std::int64_t product = 1;
    for (const FftPlan::Stage& stage : plan.stages()) {
      product *= stage.radix;
      EXPECT_EQ(stage.radix * stage.span * product / stage.radix, plan.points());
    }
    EXPECT_EQ(product, plan.points());
    std::vector<bool> taken(static_cast<std::size_t>(plan.points()));
    for (std::int64_t k = 0; k < plan.points(); ++k) {
      const auto position = static_cast<std::size_t>(plan.position(k));
      ASSERT_LT(position, taken.size());
      EXPECT_FALSE(taken[position]);
      taken[position] = true;
    }
  }
}

// Every frequency is in one pair, as its low or its high member.
TEST(FftPlan, PairsCoverTheSpectrum) {
  for (const std::int64_t length : {2, 4, 6, 10, 24}) {
    const FftPlan plan(length);
    std::vector<int> seen(static_cast<std::size_t>(plan.points()));
    for (std::int64_t pair = 0; pair < plan.pairs(); ++pair) {
      seen[static_cast<std::size_t>(pair)] += 1;
      if (plan.partner(pair) != pair) seen[static_cast<std::size_t>(plan.partner(pair))] += 1;
      const double angle = 2.0 * std::numbers::pi * static_cast<double>(pair) / static_cast<double>(length);
      EXPECT_NEAR(plan.fold_root(pair)[0], std::cos(angle), 0x1p-24);
      EXPECT_NEAR(plan.fold_root(pair)[1], -std::sin(angle), 0x1p-24);
    }
    for (const int count : seen) EXPECT_EQ(count, 1);
  }
}

}  // namespace
}  // namespace krait::kernels
