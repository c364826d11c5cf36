#include "krait/train/curriculum_reward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "krait/train/curriculum_options.h"
#include "krait/train/mixture_chart.h"
#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

// The published formula, from its power series where its argument is small: tanh(z) = z - z^3 / 3 + …
TEST(CurriculumReward, IsThePublishedFormula) {
  constexpr double e = std::numbers::e;
  // 2.0 to 1.9: ratio -0.05, z = sqrt(3.8) (-0.05)^3 e.
  const double z = std::sqrt(3.8) * -1.25e-4 * e;
  EXPECT_NEAR(loss_reward(2.0, 1.9), -100 * e * (z - z * z * z / 3), 1e-9);
  EXPECT_GT(loss_reward(2.0, 1.9), 0.17);
  EXPECT_NEAR(loss_reward(1.9, 2.0), -100 * e * std::sqrt(3.8) * std::pow(0.1 / 1.9, 3) * e, 1e-4);
  EXPECT_EQ(loss_reward(2.0, 2.0), 0.0);
  EXPECT_EQ(loss_reward(4.0, 1.0), 1.0);
  EXPECT_EQ(loss_reward(1.0, 4.0), -1.0);
}

TEST(CurriculumReward, HasAnAnswerToEveryLoss) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(loss_reward(2.0, nan), -1.0);
  EXPECT_EQ(loss_reward(2.0, inf), -1.0);
  EXPECT_EQ(loss_reward(nan, 2.0), 1.0);
  EXPECT_EQ(loss_reward(0.0, 0.0), 0.0);
  EXPECT_EQ(loss_reward(0.0, 1.0), -1.0);
  // Loss 0 makes the square root 0: the formula sees no reward there, whatever was before.
  EXPECT_EQ(loss_reward(1.0, 0.0), 0.0);
}

TEST(Mixtures, AreSharesOfWhatIsOpen) {
  const std::vector<bool> open = {true, false, true, true, true};
  Random random(3);
  for (int family = 0; family < kMixtureFamilies; ++family) {
    for (int i = 0; i < 200; ++i) {
      const std::vector<double> mixture = draw_mixture(random, open, family);
      double sum = 0;
      for (std::size_t k = 0; k < mixture.size(); ++k) {
        EXPECT_EQ(mixture[k] > 0, open[k]);
        sum += mixture[k];
      }
      EXPECT_NEAR(sum, 1.0, 5 * std::numeric_limits<double>::epsilon());
    }
  }
}

// Of two shares by Pareto's distribution the ratio of the larger to the smaller is again Pareto: the logarithm of
// X^(-1/a) is exponential of rate a, and so is the distance of two of them. P(ratio > r) = r^-a.
TEST(Mixtures, ParetosTailsAreThoseOfTheirShapes) {
  constexpr int kDraws = 20000;
  const double shapes[] = {2, 3, 5};
  for (int family = 1; family < kMixtureFamilies; ++family) {
    Random random = random_stream(9, {static_cast<std::uint64_t>(family)});
    int above = 0;
    for (int i = 0; i < kDraws; ++i) {
      const auto mixture = draw_mixture(random, {true, true}, family);
      above += std::max(mixture[0], mixture[1]) > 1.5 * std::min(mixture[0], mixture[1]) ? 1 : 0;
    }
    const double expected = std::pow(1.5, -shapes[family - 1]);
    const double deviation = std::sqrt(expected * (1 - expected) / kDraws);
    EXPECT_NEAR(static_cast<double>(above) / kDraws, expected, 5 * deviation) << family;
  }
}

TEST(Exploration, FallsByACosine) {
  EXPECT_EQ(exploration_chance(0.8, 0.0), 0.8);
  EXPECT_NEAR(exploration_chance(0.8, 0.5), 0.4, 1e-12);
  EXPECT_NEAR(exploration_chance(0.8, 1.0), 0.0, 1e-12);
  EXPECT_NEAR(exploration_chance(1.0, 0.25), 0.5 + std::sqrt(0.125), 1e-12);
}

std::string complaint(std::string_view text) {
  auto file = ConfigFile::parse(text, "run.toml");
  CurriculumOptions options;
  read_curriculum(file->table("curriculum"), options);
  const auto done = file->finish();
  return done ? "" : done.error().message;
}

TEST(CurriculumConfig, SaysWhatIsWrong) {
  EXPECT_EQ(complaint(""), "");
  EXPECT_EQ(complaint("[curriculum]\nevery = 50\nexploration = 0.5\n"), "");
  EXPECT_NE(complaint("[curriculum]\nexploration = 0.5\n").find("every"), std::string::npos);
  EXPECT_NE(complaint("[curriculum]\nevery = 5\nexploration = 1.5\n").find("exploration"), std::string::npos);
  EXPECT_NE(complaint("[curriculum]\nevery = 5\ncandidates = 4\nbest = 5\n").find("5 of 4 candidates"),
            std::string::npos);
}

TEST(MixtureChart, DrawsEveryShareAsHighAsItIs) {
  const std::vector<std::string> names = {"copying", "a<b&c"};
  const std::vector<MixtureStretch> stretches = {{0, {0.25, 0.75}}, {100, {1.0, 0.0}}};
  const std::string chart = mixture_chart(names, stretches, 200);
  EXPECT_TRUE(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
  EXPECT_NE(chart.find("a&lt;b&amp;c 0 %"), std::string::npos);
  EXPECT_NE(chart.find("copying 100 %"), std::string::npos);
  // From 44 to 564 across and 276 up to 16: a quarter of 260 is 65.
  EXPECT_NE(chart.find("points=\"44.00,211.00 304.00,211.00 304.00,16.00 564.00,16.00 "), std::string::npos) << chart;
  EXPECT_EQ(mixture_chart({}, stretches, 200), "");
  EXPECT_EQ(mixture_chart(names, {}, 200), "");
}

}  // namespace
}  // namespace krait::train
