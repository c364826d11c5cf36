// The likeliest tokens from stretches of the vocabulary are those of the whole row, and what is drawn from them is what
// is drawn from the row.
#include "krait/models/likeliest.h"

#include <gtest/gtest.h>

#include <limits>

#include "krait/kernels/distribution.h"
#include "krait/runtime/sampler.h"
#include "tests/runtime/stored_states.h"

namespace krait::runtime {
namespace {

using kernels::PanelFormat;

// Neither a multiple of a panel nor of a stretch.
constexpr models::SyntheticShape kWide{"wide", "mamba2", 1, 32, 5003, 8, 8};

std::unique_ptr<Engine> wide_engine(std::optional<PanelFormat> weights) {
  models::LoadOptions load;
  load.weights = weights;
  auto model = models::load_model(models::make_synthetic(kWide, DType::kF32, 7), load);
  if (!model) throw std::runtime_error(model.error().message);
  return std::make_unique<Engine>(*std::move(model),
                                  EngineOptions{.threads = 2, .state_memory = std::uint64_t{1} << 24});
}

class LikeliestTokens : public testing::TestWithParam<PanelFormat> {};

TEST_P(LikeliestTokens, AreThoseOfTheWholeRow) {
  const auto engine = wide_engine(GetParam());
  ASSERT_TRUE(engine->heads_in_stretches());
  for (const std::int64_t rows : {1, 3, 300}) {
    ASSERT_TRUE(rows < 300 || models::head_stretch(rows, kWide.vocabulary) < 2000);  // several stretches
    Session session(*engine);
    const auto tokens = tests::random_tokens(rows, kWide.vocabulary, 3);
    const StepRequest request{&session, tokens, 0, StepOutput::kHidden};
    const OutputRows hidden = engine->step({&request, 1}).hidden;
    for (const std::int64_t drawable : {std::int64_t{700}, std::int64_t{4097}, kWide.vocabulary}) {
      std::vector<std::int64_t> counts;
      for (std::int64_t row = 0; row < rows; ++row) counts.push_back(std::array{1, 40, 256}[row % 3]);
      const auto got = engine->likeliest_of(hidden, counts, drawable);
      ASSERT_EQ(std::ssize(got), rows);
      for (std::int64_t row = 0; row < rows; ++row) {
        const auto at = static_cast<std::size_t>(row);
        const auto whole = engine->logits_of(hidden.slice(row, 1)).row(0).first(static_cast<std::size_t>(drawable));
        std::vector<std::int32_t> best(static_cast<std::size_t>(counts[at]));
        kernels::top_k(whole, best);
        ASSERT_EQ(got[at].size(), best.size());
        for (std::size_t i = 0; i < best.size(); ++i) {
          ASSERT_EQ(got[at][i].id, best[i]) << "row " << row << ", place " << i;
          ASSERT_EQ(got[at][i].logit, whole[static_cast<std::size_t>(best[i])]);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, LikeliestTokens,
                         testing::Values(PanelFormat::kF32, PanelFormat::kBF16, PanelFormat::kInt8,
                                         PanelFormat::kInt8Block, PanelFormat::kInt4Group32),
                         [](const auto& info) {
                           std::string name(to_string(info.param));
                           std::erase(name, '-');
                           return name;
                         });

SamplerOptions options_of(float temperature, std::int64_t top_k = 40, float top_p = 1, float min_p = 0) {
  SamplerOptions options;
  options.temperature = temperature;
  options.top_k = top_k;
  options.top_p = top_p;
  options.min_p = min_p;
  return options;
}

TEST(LikeliestTokensOfASampler, AreWhatItDrawsFrom) {
  Random random(5);
  std::vector<float> row(2000);
  for (const SamplerOptions& options :
       {options_of(0), options_of(1, 1), options_of(0.7F, 40, 0.9F), options_of(2, 256, 1, 0.05F)}) {
    Sampler whole(options, 1900), few(options, 1900);
    const auto count = few.likeliest_needed();
    ASSERT_TRUE(count);
    for (int round = 0; round < 300; ++round) {
      // Coarse, so that there are ties.
      for (float& logit : row) logit = static_cast<float>(static_cast<int>(random.uniform() * 64)) / 8.0F;
      if (round % 7 == 0) row[random.next() % row.size()] = std::numeric_limits<float>::quiet_NaN();
      if (round % 11 == 0) std::ranges::fill(row, -std::numeric_limits<float>::infinity());
      std::vector<TokenId> ids(static_cast<std::size_t>(*count));
      kernels::top_k(std::span(row).first(1900), ids);
      std::vector<float> logits;
      for (const TokenId id : ids) {
        const float logit = row[static_cast<std::size_t>(id)];
        logits.push_back(std::isnan(logit) ? -std::numeric_limits<float>::infinity() : logit);
      }
      ASSERT_EQ(few.sample_of(ids, logits), whole.sample(row)) << "round " << round;
    }
  }
}

TEST(LikeliestTokensOfASampler, DoNotDecideWhereAllTokensDo) {
  const auto needed = [](SamplerOptions options) { return Sampler(std::move(options), 1000).likeliest_needed(); };
  EXPECT_EQ(needed(options_of(0)), 1);
  EXPECT_EQ(needed(options_of(1, 40)), 40);
  EXPECT_FALSE(needed(options_of(1, 0)));
  EXPECT_FALSE(needed(options_of(1, 257)));
  SamplerOptions penalty = options_of(0), presence = options_of(0), bias = options_of(0);
  penalty.repetition_penalty = 1.1F;
  presence.presence_penalty = 0.5F;
  bias.logit_bias = {{3, 1.0F}};
  EXPECT_FALSE(needed(penalty));
  EXPECT_FALSE(needed(presence));
  EXPECT_FALSE(needed(bias));
}

}  // namespace
}  // namespace krait::runtime
