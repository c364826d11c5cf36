#include "krait/kernels/adamw.h"

#include <limits>

#include "krait/core/check.h"
#include "krait/kernels/reference/adamw.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::on_every_target;

// Lengths round a vector and round a task's 32,768 elements.
const std::vector<std::int64_t> kCounts = {0, 1, 7, 16, 17, 130, 32768, 32769, 70001};

std::vector<float> normals(std::int64_t count, Random& random, double scale = 1.0) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(scale * random.normal()));
  return values;
}

struct Parameter {
  std::vector<float> values, gradient, m, v, average;

  Parameter(std::int64_t count, Random& random)
      : values(normals(count, random)),
        gradient(normals(count, random, 3.0)),
        m(normals(count, random, 0.1)),
        v(normals(count, random)),
        average(normals(count, random)) {
    for (float& x : v) x *= x;
  }
  AdamWParameter spans(bool averaged) {
    return {.values = values,
            .gradient = gradient,
            .m = m,
            .v = v,
            .average = averaged ? std::span<float>(average) : std::span<float>()};
  }
};

TEST(AdamW, SumOfSquaresIsThatOfTheOracleOnAnyNumberOfThreads) {
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t count : kCounts) {
      const std::vector<float> gradient = normals(count, random);
      const std::vector<double> wide(gradient.begin(), gradient.end());
      ThreadPool one(1), two(2), three(3);
      const double sum = sum_of_squares(one, gradient), expected = reference::sum_of_squares(wide);
      // Squares of floats are exact in double; each of two sums rounds once a term.
      EXPECT_NEAR(sum, expected, 2.0 * 0x1p-53 * static_cast<double>(count + 1) * expected);
      EXPECT_EQ(sum_of_squares(two, gradient), sum);
      EXPECT_EQ(sum_of_squares(three, gradient), sum);
    }
  });
}

TEST(AdamW, SumOfSquaresIsFiniteExactlyWhenTheGradientIs) {
  ThreadPool pool(2);
  on_every_target([&] {
    std::vector<float> gradient(70000, std::numeric_limits<float>::max());
    EXPECT_TRUE(std::isfinite(sum_of_squares(pool, gradient)));
    for (const std::size_t at : {0U, 32767U, 32768U, 69999U}) {
      for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()}) {
        const float before = gradient[at];
        gradient[at] = bad;
        EXPECT_FALSE(std::isfinite(sum_of_squares(pool, gradient))) << bad << " at " << at;
        gradient[at] = before;
      }
    }
  });
}

// The first step moves each value by the rate against the gradient's sign, whatever the gradient's size; the decay
// shrinks the value beside that.
TEST(AdamW, FirstStepMovesByTheRate) {
  ThreadPool pool(1);
  for (const double size : {1e-3, 1.0, 1e4}) {
    std::vector<float> p = {2.0F, -1.0F}, m(2), v(2);
    const std::vector<float> g = {static_cast<float>(size), static_cast<float>(-size)};
    adamw_update(pool, {.rate = 0.125, .epsilon = 1e-12, .decay = 0.5}, {.values = p, .gradient = g, .m = m, .v = v});
    EXPECT_NEAR(p[0], 2.0 * (1.0 - 0.0625) - 0.125, 1e-6);
    EXPECT_NEAR(p[1], -1.0 * (1.0 - 0.0625) + 0.125, 1e-6);
  }
}

// m and v are sums of two terms with three roundings each (the factors are rounded too); the change has those of m and
// half of v's in its relative error, of the terms of m in absolute values, and some eight of its own.
void expect_matches_oracle(const AdamW& adamw, const Parameter& before, const Parameter& after, bool averaged) {
  const auto wide = [](const std::vector<float>& from) { return std::vector<double>(from.begin(), from.end()); };
  std::vector<double> values = wide(before.values), m = wide(before.m), v = wide(before.v);
  std::vector<double> average = wide(before.average);
  const std::vector<double> gradient = wide(before.gradient);
  reference::adamw_update(adamw, {.values = values,
                                  .gradient = gradient,
                                  .m = m,
                                  .v = v,
                                  .average = averaged ? std::span<double>(average) : std::span<double>()});
  const auto step = static_cast<double>(adamw.step);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double g = std::fabs(adamw.gradient_scale * gradient[i]);
    const double m_size = adamw.b1 * std::fabs(double{before.m[i]}) + (1.0 - adamw.b1) * g;
    const double root = std::sqrt(v[i] / (1.0 - std::pow(adamw.b2, step))) + adamw.epsilon;
    const double change = adamw.rate * m_size / (1.0 - std::pow(adamw.b1, step)) / root;
    ASSERT_NEAR(after.m[i], m[i], 5.0 * kRounding * m_size + tests::kTiny);
    ASSERT_NEAR(after.v[i], v[i], 7.0 * kRounding * v[i] + tests::kTiny);
    const double bound = kRounding * (16.0 * change + 3.0 * std::fabs(double{before.values[i]}));
    ASSERT_NEAR(after.values[i], values[i], bound + tests::kTiny);
    const double average_bound =
        bound + 4.0 * kRounding * (std::fabs(double{before.average[i]}) + std::fabs(values[i]));
    ASSERT_NEAR(after.average[i], average[i], average_bound + tests::kTiny);
    if (!averaged) {
      ASSERT_EQ(after.average[i], before.average[i]);
    }
  }
}

TEST(AdamW, MatchesOracleAtEveryLengthAndStep) {
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t count : kCounts) {
      for (const std::int64_t step : {1, 2, 1000000}) {
        for (const bool averaged : {false, true}) {
          const AdamW adamw{.rate = 3e-4,
                            .decay = 0.1,
                            .step = step,
                            .gradient_scale = 0.37,
                            .average_decay = averaged ? 0.999 : 0.0};
          const Parameter before(count, random);
          Parameter after = before;
          ThreadPool one(1);
          adamw_update(one, adamw, after.spans(averaged));
          expect_matches_oracle(adamw, before, after, averaged);
          for (const int threads : {2, 3}) {
            ThreadPool pool(threads);
            Parameter again = before;
            adamw_update(pool, adamw, again.spans(averaged));
            ASSERT_EQ(again.values, after.values);
            ASSERT_EQ(again.m, after.m);
            ASSERT_EQ(again.v, after.v);
            ASSERT_EQ(again.average, after.average);
          }
        }
      }
    }
  });
}

// Four hundred steps of 0.05 cover the way many times; the last ones are within a step of the bottom.
TEST(AdamW, FindsTheBottomOfABowl) {
  ThreadPool pool(1);
  std::vector<float> p = {3.0F, -2.0F, 0.5F}, g(3), m(3), v(3), average = p;
  for (std::int64_t step = 1; step <= 400; ++step) {
    for (std::size_t i = 0; i < 3; ++i) g[i] = 2.0F * (p[i] - 1.0F);
    adamw_update(pool, {.rate = 0.05, .step = step, .average_decay = 0.9},
                 {.values = p, .gradient = g, .m = m, .v = v, .average = average});
  }
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(p[i], 1.0, 0.05);
    EXPECT_NEAR(average[i], 1.0, 0.05);
  }
}

TEST(AdamW, LengthsThatDifferAndStepZeroAreCaught) {
  ThreadPool pool(1);
  std::vector<float> p(4), g(4), m(4), v(3);
  EXPECT_THROW(adamw_update(pool, {}, {.values = p, .gradient = g, .m = m, .v = v}), InternalError);
  v.resize(4);
  EXPECT_NO_THROW(adamw_update(pool, {}, {.values = p, .gradient = g, .m = m, .v = v}));
  EXPECT_THROW(adamw_update(pool, {.step = 0}, {.values = p, .gradient = g, .m = m, .v = v}), InternalError);
}

}  // namespace
}  // namespace krait::kernels
