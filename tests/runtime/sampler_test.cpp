#include "krait/runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "krait/core/error.h"

namespace krait::runtime {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

SamplerOptions plain() {
  SamplerOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  return options;
}

// How often each token is drawn from fixed logits.
std::map<TokenId, double> frequencies(SamplerOptions options, const std::vector<float>& logits, int draws = 20000) {
  // Penalties count draws; a fresh sampler each time keeps the draws independent.
  std::map<TokenId, double> counts;
  for (int i = 0; i < draws; ++i) {
    options.seed = static_cast<std::uint64_t>(i);
    counts[Sampler(options, static_cast<std::int64_t>(logits.size())).sample(logits)] += 1.0 / draws;
  }
  return counts;
}

// Three standard deviations of a frequency over 20,000 draws are at most 3 × sqrt(0.25 / 20000) = 0.011.
constexpr double kSpread = 0.011;

TEST(Sampler, TemperatureZeroTakesTheLargestLogit) {
  SamplerOptions options;
  options.temperature = 0;
  Sampler sampler(options, 4);
  EXPECT_EQ(sampler.sample(std::vector<float>{0.5F, 3, -1, 2.9F}), 1);
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.2F)};
  const auto got = frequencies(plain(), logits);
  EXPECT_NEAR(got.at(0), 0.5, kSpread);
  EXPECT_NEAR(got.at(1), 0.3, kSpread);
  EXPECT_NEAR(got.at(2), 0.2, kSpread);
}

TEST(Sampler, TemperatureSharpensOrFlattens) {
  SamplerOptions options = plain();
  options.temperature = 0.5F;  // squares the odds: 0.8² : 0.2² = 16 : 1
  EXPECT_NEAR(frequencies(options, {std::log(0.8F), std::log(0.2F)}).at(0), 16.0 / 17, kSpread);
}

TEST(Sampler, TopKKeepsTheMostLikely) {
  SamplerOptions options = plain();
  options.top_k = 2;
  const auto got = frequencies(options, {std::log(0.1F), std::log(0.6F), std::log(0.3F)});
  EXPECT_EQ(got.count(0), 0U);
  EXPECT_NEAR(got.at(1), 2.0 / 3, kSpread);
}

TEST(Sampler, TopPKeepsTheShortestListThatReachesTheShare) {
  SamplerOptions options = plain();
  options.top_p = 0.75F;
  const auto got = frequencies(options, {std::log(0.5F), std::log(0.3F), std::log(0.2F)});
  EXPECT_EQ(got.count(2), 0U);
  EXPECT_NEAR(got.at(0), 0.625, kSpread);
}

TEST(Sampler, MinPDropsTokensFarBelowTheMostLikely) {
  SamplerOptions options = plain();
  options.min_p = 0.5F;
  const auto got = frequencies(options, {std::log(0.5F), std::log(0.3F), std::log(0.2F)});
  EXPECT_EQ(got.count(2), 0U);
  EXPECT_NEAR(got.at(0), 0.625, kSpread);
}

TEST(Sampler, LogitBiasForbidsAndForces) {
  SamplerOptions options = plain();
  options.logit_bias = {{0, -kInfinity}, {2, 100}};
  EXPECT_NEAR(frequencies(options, {50, 0, 0}, 200).at(2), 1.0, 1e-9);
}

TEST(Sampler, RepetitionPenaltyWorksAgainstThePromptToo) {
  SamplerOptions options;
  options.temperature = 0;
  options.repetition_penalty = 2;
  Sampler sampler(options, 3);
  const std::vector<TokenId> prompt = {0, 2};
  sampler.observe_prompt(prompt);
  // 4 / 2 = 2 and -1 × 2 = -2 against an untouched 2.5 and 1.
  EXPECT_EQ(sampler.sample(std::vector<float>{4, 2.5F, -1}), 1);
}

TEST(Sampler, PresenceAndFrequencyCountOnlyWhatWasGenerated) {
  SamplerOptions options;
  options.temperature = 0;
  options.presence_penalty = 0.5F;
  options.frequency_penalty = 1;
  Sampler sampler(options, 2);
  const std::vector<TokenId> prompt = {0, 0, 0};
  sampler.observe_prompt(prompt);
  const std::vector<float> logits = {2, 0};
  EXPECT_EQ(sampler.sample(logits), 0);  // 2 against 0
  EXPECT_EQ(sampler.sample(logits), 0);  // 2 - 0.5 - 1
  EXPECT_EQ(sampler.sample(logits), 1);  // 2 - 0.5 - 2
}

TEST(Sampler, NeverChoosesPaddingOfTheVocabulary) {
  SamplerOptions options;
  options.temperature = 0;
  Sampler sampler(options, 2);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, 1, 99, 99}), 1);
}

TEST(Sampler, SurvivesNanAndInfinity) {
  SamplerOptions greedy;
  greedy.temperature = 0;
  EXPECT_EQ(Sampler(greedy, 3).sample(std::vector<float>{kNan, 1, kNan}), 1);
  EXPECT_EQ(Sampler(plain(), 3).sample(std::vector<float>{0, kInfinity, 0}), 1);
  EXPECT_EQ(Sampler(plain(), 3).sample(std::vector<float>{kNan, -2, -kInfinity}), 1);
  const TokenId any = Sampler(plain(), 3).sample(std::vector<float>{-kInfinity, -kInfinity, -kInfinity});
  EXPECT_GE(any, 0);
  EXPECT_LT(any, 3);
}

TEST(Sampler, ASeedRepeatsItsDraws) {
  std::vector<float> logits(1000);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 17) / 5;
  SamplerOptions options;
  options.seed = 99;
  Sampler first(options, 1000);
  Sampler second(options, 1000);
  options.seed = 100;
  Sampler other(options, 1000);
  int different = 0;
  for (int i = 0; i < 50; ++i) {
    const TokenId drawn = first.sample(logits);
    EXPECT_EQ(drawn, second.sample(logits));
    different += drawn != other.sample(logits) ? 1 : 0;
  }
  EXPECT_GT(different, 10);
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  const auto refused = [](auto change) {
    SamplerOptions options;
    change(options);
    EXPECT_THROW(Sampler(options, 10), UserError);
  };
  refused([](SamplerOptions& o) { o.temperature = -1; });
  refused([](SamplerOptions& o) { o.temperature = kNan; });
  refused([](SamplerOptions& o) { o.top_k = -1; });
  refused([](SamplerOptions& o) { o.top_p = 0; });
  refused([](SamplerOptions& o) { o.top_p = 1.1F; });
  refused([](SamplerOptions& o) { o.min_p = -0.1F; });
  refused([](SamplerOptions& o) { o.repetition_penalty = 0; });
  refused([](SamplerOptions& o) { o.logit_bias = {{10, 1.0F}}; });
}

}  // namespace
}  // namespace krait::runtime
