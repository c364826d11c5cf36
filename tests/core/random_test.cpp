#include "krait/core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace krait {
namespace {

// The published sequence of SplitMix64 for this seed (Steele, Lea, Flood; also in Vigna's reference implementation).
TEST(Random, IsSplitMix64) {
  Random random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317ULL);
  EXPECT_EQ(random.next(), 3203168211198807973ULL);
  EXPECT_EQ(random.next(), 9817491932198370423ULL);
  EXPECT_EQ(random.next(), 4593380528125082431ULL);
  EXPECT_EQ(random.next(), 16408922859458223821ULL);
}

TEST(Random, StoredStateContinuesTheStream) {
  Random random(99);
  for (int i = 0; i < 10; ++i) random.normal();
  Random resumed(random.state());
  for (int i = 0; i < 100; ++i) ASSERT_EQ(resumed.next(), random.next());
}

// For n uniform draws the mean strays by sqrt(1 / 12 n) and the mean square by sqrt((1/5 - 1/9) / n); five times
// that is past chance, and the seed is fixed.
TEST(Random, UniformFillsTheUnitInterval) {
  Random random(3);
  constexpr int kDraws = 1'000'000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double draw = random.uniform();
    ASSERT_GE(draw, 0.0);
    ASSERT_LT(draw, 1.0);
    sum += draw;
    squares += draw * draw;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 5 * std::sqrt((1.0 / 5 - 1.0 / 9) / kDraws));
}

// Moments of the standard normal: 0, 1, 0, 3; the moment of order k of n draws strays by sqrt((m[2k] - m[k]^2) / n).
TEST(Random, NormalHasTheMomentsOfTheStandardNormal) {
  Random random(4);
  constexpr int kDraws = 1'000'000;
  double moments[5] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double draw = random.normal();
    ASSERT_TRUE(std::isfinite(draw));
    double power = 1;
    for (double& moment : moments) {
      moment += power / kDraws;
      power *= draw;
    }
  }
  EXPECT_NEAR(moments[1], 0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(moments[2], 1, 5 * std::sqrt((3.0 - 1) / kDraws));
  EXPECT_NEAR(moments[3], 0, 5 * std::sqrt(15.0 / kDraws));
  EXPECT_NEAR(moments[4], 3, 5 * std::sqrt((105.0 - 9) / kDraws));
}

}  // namespace
}  // namespace krait
