#include "krait/load/arrivals.h"

#include <gtest/gtest.h>

#include <cmath>

#include "krait/load/spread.h"

namespace krait::load {
namespace {

constexpr int kDraws = 200'000;

struct Moments {
  double mean = 0, variation = 0;
};

template <class Draw>
Moments moments(const Draw& draw) {
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = draw();
    EXPECT_GE(value, 0);
    sum += value;
    squares += value * value;
  }
  const double mean = sum / kDraws;
  return {mean, std::sqrt(squares / kDraws - mean * mean) / mean};
}

// Five standard errors of a mean of so many draws.
double mean_error(double mean, double variation) { return 5 * mean * variation / std::sqrt(double{kDraws}); }

TEST(Arrivals, HaveTheirRateAndVariation) {
  Random random(1);
  const auto of = [&](ArrivalOptions options) {
    const Arrivals arrivals(options);
    return moments([&] { return arrivals.next(random); });
  };
  EXPECT_DOUBLE_EQ(of({.kind = ArrivalKind::fixed, .per_second = 4}).mean, 0.25);
  const Moments poisson = of({.kind = ArrivalKind::poisson, .per_second = 4});
  EXPECT_NEAR(poisson.mean, 0.25, mean_error(0.25, 1));
  // The standard error of a sample's standard deviation is sigma sqrt((kurtosis - 1) / 4n): of exponentials sqrt(2 /
  // n).
  EXPECT_NEAR(poisson.variation, 1, 5 * std::sqrt(2.0 / kDraws) + 5 / std::sqrt(double{kDraws}));
  for (const double cv : {0.5, 2.0}) {
    const Moments gamma = of({.kind = ArrivalKind::gamma, .per_second = 4, .variation = cv});
    EXPECT_NEAR(gamma.mean, 0.25, mean_error(0.25, cv));
    // Of gamma variates of shape k = 1 / cv² the kurtosis is 3 + 6 / k.
    const double kurtosis = 3 + 6 * cv * cv;
    EXPECT_NEAR(gamma.variation, cv,
                5 * cv * (std::sqrt((kurtosis - 1) / 4 / kDraws) + cv / std::sqrt(double{kDraws})));
  }
}

TEST(Arrivals, AreTheSameForASeed) {
  const Arrivals arrivals({.kind = ArrivalKind::gamma, .variation = 3});
  Random one(5), other(5);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(arrivals.next(one), arrivals.next(other));
}

TEST(Spread, HasItsMeanAndBounds) {
  Random random(2);
  EXPECT_EQ(Spread::parse("128")->draw(random), 128);
  const Spread uniform = *Spread::parse("64-256");
  EXPECT_NEAR(moments([&] {
                const double value = uniform.draw(random);
                EXPECT_GE(value, 64);
                EXPECT_LE(value, 256);
                return value;
              }).mean,
              160, mean_error(160, 192 / std::sqrt(12.0) / 160));
  const Spread exponential = *Spread::parse("exp:50");
  EXPECT_NEAR(moments([&] { return exponential.draw(random); }).mean, 50, mean_error(50, 1));
  const Spread lognormal = *Spread::parse("lognormal:200:0.5");
  EXPECT_NEAR(moments([&] { return lognormal.draw(random); }).mean, 200, mean_error(200, 0.5));
}

TEST(Spread, RefusesWhatItCannotRead) {
  for (const char* text : {"", "a", "5-", "9-3", "-4", "exp:", "lognormal:5", "lognormal:5:", "1e999", "nan"}) {
    const auto spread = Spread::parse(text);
    ASSERT_FALSE(spread) << text;
    EXPECT_EQ(spread.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace krait::load
