#include "krait/server/cost_model.h"

#include <gtest/gtest.h>

#include <limits>
#include <utility>

#include "krait/core/random.h"

namespace krait::server {
namespace {

constexpr CostModel::Line kTruth{.base = 0.03, .row = 0.001, .token = 0.0004};

double cost(const CostModel::Line& line, std::int64_t b, std::int64_t n) {
  return line.base + line.row * static_cast<double>(b) + line.token * static_cast<double>(n);
}

TEST(CostModel, FindsTheLineBehindNoisySteps) {
  CostModel model;
  Random random(3);
  for (int i = 0; i < 400; ++i) {
    const auto b = static_cast<std::int64_t>(random.next() % 32);
    const auto n = static_cast<std::int64_t>(random.next() % 3 * 128);
    model.observe({b, n}, cost(kTruth, b, n) * (0.9 + 0.2 * random.uniform()));
  }
  // Uniform noise of 10 % has a deviation of 6 %; some 50 steps count, so a prediction is off by 1 %: five of these.
  for (const auto& [b, n] : {std::pair{1, 0}, {16, 0}, {32, 0}, {0, 256}, {16, 256}}) {
    EXPECT_NEAR(model.seconds({b, n}) / cost(kTruth, b, n), 1, 0.05) << b << " decodes, " << n << " tokens";
  }
}

TEST(CostModel, FollowsAMachineThatBecomesSlower) {
  CostModel model;
  for (int i = 0; i < 300; ++i) model.observe({i % 16, i % 5 * 64}, cost(kTruth, i % 16, i % 5 * 64));
  for (int i = 0; i < 300; ++i) model.observe({i % 16, i % 5 * 64}, 3 * cost(kTruth, i % 16, i % 5 * 64));
  EXPECT_NEAR(model.seconds({8, 128}) / (3 * cost(kTruth, 8, 128)), 1, 0.05);
}

TEST(CostModel, RemembersPromptsThroughALongTimeWithoutThem) {
  CostModel model;
  for (int i = 0; i < 300; ++i) model.observe({i % 16, i % 5 * 64}, cost(kTruth, i % 16, i % 5 * 64));
  const double before = model.line().token;
  for (int i = 0; i < 5000; ++i) model.observe({16, 0}, cost(kTruth, 16, 0));
  EXPECT_NEAR(model.line().token / before, 1, 0.05);
}

TEST(CostModel, NeverGivesTimeForMoreWork) {
  CostModel model;
  // Steps with more rows that were faster: a plain least squares would find a negative row.
  for (int i = 0; i < 200; ++i) model.observe({i % 16, 0}, 0.05 - 0.001 * (i % 16));
  EXPECT_GE(model.line().base, 0);
  EXPECT_GE(model.line().row, 0);
  EXPECT_GE(model.line().token, 0);
  EXPECT_NEAR(model.seconds({8, 0}), 0.0425, 0.005);
}

TEST(CostModel, IgnoresWhatIsNoTime) {
  CostModel model;
  const double before = model.seconds({4, 100});
  model.observe({4, 100}, 0);
  model.observe({4, 100}, -1);
  model.observe({4, 100}, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(model.seconds({4, 100}), before);
}

}  // namespace
}  // namespace krait::server
