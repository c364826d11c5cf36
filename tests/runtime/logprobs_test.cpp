#include "krait/runtime/logprobs.h"

#include <gtest/gtest.h>

#include <cmath>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

TEST(Logprobs, AreLogarithmsOfShares) {
  // Shares 1/8, 4/8, 2/8, 1/8.
  const std::vector<float> logits = {0.0F, std::log(4.0F), std::log(2.0F), 0.0F};
  const Logprobs of = logprobs_of(logits, 2, 3, 4);
  EXPECT_FLOAT_EQ(of.chosen, std::log(0.25F));
  ASSERT_EQ(of.top.size(), 3U);
  EXPECT_EQ(of.top[0].first, 1);
  EXPECT_FLOAT_EQ(of.top[0].second, std::log(0.5F));
  EXPECT_EQ(of.top[1].first, 2);
  EXPECT_EQ(of.top[2].first, 0);  // of equal ones the smaller id
}

TEST(Logprobs, LeavePaddingOutAndGiveNoMoreThanThereIs) {
  const std::vector<float> logits = {0.0F, 0.0F, 100.0F};
  const Logprobs of = logprobs_of(logits, 0, 20, 2);
  EXPECT_FLOAT_EQ(of.chosen, std::log(0.5F));
  EXPECT_EQ(of.top.size(), 2U);
  EXPECT_TRUE(logprobs_of(logits, 0, 0, 3).top.empty());
}

TEST(Logprobs, OfATokenThatCannotBeDrawnAreOurMistake) {
  const std::vector<float> logits = {0.0F, 0.0F, 1.0F};
  EXPECT_THROW(logprobs_of(logits, 2, 1, 2), InternalError);
  EXPECT_THROW(logprobs_of(logits, -1, 1, 2), InternalError);
}

}  // namespace
}  // namespace krait::runtime
