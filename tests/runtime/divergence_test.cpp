#include "krait/runtime/divergence.h"

#include <gtest/gtest.h>

#include <cmath>

#include "krait/core/error.h"
#include "krait/models/registry.h"
#include "krait/models/synthetic.h"

namespace krait::runtime {
namespace {

constexpr models::SyntheticShape kTiny{"tiny", "mamba2", 2, 32, 101, 16, 8};

std::unique_ptr<Engine> make(const models::SyntheticShape& shape, std::optional<kernels::PanelFormat> weights = {}) {
  models::LoadOptions options;
  options.weights = weights;
  auto model = models::load_model(models::make_synthetic(shape, DType::kF32, 3), options);
  return std::make_unique<Engine>(*std::move(model), EngineOptions{1});
}

std::vector<TokenId> some_ids() {
  std::vector<TokenId> ids;
  for (int i = 0; i < 400; ++i) ids.push_back((i * 37 + i * i) % 101);
  return ids;
}

TEST(Divergence, OfAModelFromItselfIsNothing) {
  const auto engine = make(kTiny);
  Session left(*engine), right(*engine);
  Divergence divergence(left, right);
  divergence.feed(some_ids());
  EXPECT_EQ(divergence.tokens(), 400);
  EXPECT_LT(divergence.mean_nats(), 1e-12);
  EXPECT_EQ(divergence.same_top_share(), 1.0);
}

TEST(Divergence, GrowsAsWeightsLoseBits) {
  const auto exact = make(kTiny);
  double before = 0.0;
  for (const auto format : {kernels::PanelFormat::kInt8, kernels::PanelFormat::kInt4Group32}) {
    const auto rounded = make(kTiny, format);
    Session left(*exact), right(*rounded);
    Divergence divergence(left, right);
    divergence.feed(some_ids());
    EXPECT_GT(divergence.mean_nats(), before);
    EXPECT_GE(divergence.largest_nats(), divergence.mean_nats());
    before = 4 * divergence.mean_nats();
  }
}

TEST(Divergence, IsTheSumByItsDefinition) {
  const auto exact = make(kTiny);
  const auto rounded = make(kTiny, kernels::PanelFormat::kInt4Group32);
  Session left(*exact), right(*rounded), again_left(*exact), again_right(*rounded);
  const std::vector<TokenId> one = {5};
  Divergence divergence(left, right);
  divergence.feed(one);
  again_left.feed(one);
  again_right.feed(one);
  const auto log_sum = [](std::span<const float> x) {
    double sum = 0.0;
    for (const float v : x) sum += std::exp(double{v});
    return std::log(sum);
  };
  double expected = 0.0;
  for (std::size_t i = 0; i < 101; ++i) {
    const double p = again_left.logits()[i] - log_sum(again_left.logits());
    const double q = again_right.logits()[i] - log_sum(again_right.logits());
    expected += std::exp(p) * (p - q);
  }
  // log_sum_exp() adds f32 exponentials, each within an ulp: both logarithms may be off by 2^-23.
  EXPECT_NEAR(divergence.mean_nats(), expected, 0x1p-22);
  EXPECT_GT(expected, 100 * 0x1p-22);
}

TEST(Divergence, RefusesModelsWithOtherTokens) {
  models::SyntheticShape other = kTiny;
  other.vocabulary = 57;
  const auto one = make(kTiny), two = make(other);
  Session left(*one), right(*two);
  EXPECT_THROW(Divergence(left, right), UserError);
}

}  // namespace
}  // namespace krait::runtime
