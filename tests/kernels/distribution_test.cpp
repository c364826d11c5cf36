#include "krait/kernels/distribution.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "krait/core/check.h"
#include "krait/kernels/reference/matmul.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::on_every_target;

const float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");

std::vector<float> random_logits(std::int64_t count, Random& random) {
  std::vector<float> logits(static_cast<std::size_t>(count));
  for (float& v : logits) v = static_cast<float>(5.0 * random.normal());
  return logits;
}

TEST(Distribution, ArgmaxTakesTheFirstOfEqualsAndSkipsNan) {
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t count : tests::kLengths) {
      if (count == 0) continue;
      std::vector<float> logits = random_logits(count, random);
      for (std::int64_t at = 0; at < count; ++at) {
        std::vector<float> raised = logits;
        raised[static_cast<std::size_t>(at)] = 100.0F;
        raised.back() = 100.0F;
        EXPECT_EQ(argmax(raised), at);
        std::replace(raised.begin(), raised.end(), logits[0], kNan);
        EXPECT_EQ(argmax(raised), at);
      }
    }
    EXPECT_EQ(argmax(std::vector<float>{kNan, -kInfinity, -kInfinity}), 0);
    EXPECT_EQ(argmax(std::vector<float>{-3.0F, kInfinity, kInfinity}), 1);
  });
}

// The sum is in double over terms right to 4 roundings; a rounding of (logit - max) shifts a term by that of the
// difference, at most 40 here before the term vanishes.
TEST(Distribution, LogSumExpMatchesOracle) {
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t count : {1, 3, 16, 17, 66, 50280}) {
      const std::vector<float> logits = random_logits(count, random);
      EXPECT_NEAR(log_sum_exp(logits), reference::log_sum_exp(logits), 44 * kRounding);
    }
    EXPECT_EQ(log_sum_exp(std::vector<float>{-kInfinity, kNan, -kInfinity}), -kInfinity);
    EXPECT_NEAR(log_sum_exp(std::vector<float>{kNan, 1000.0F, 1000.0F}), 1000.0 + std::log(2.0), 1e-9);
  });
}

TEST(Distribution, SoftmaxMatchesOracleAndSumsToOne) {
  on_every_target([&] {
    Random random(3);
    for (const std::int64_t count : {1, 5, 16, 33, 1000}) {
      for (const float temperature : {0.1F, 1.0F, 3.0F}) {
        std::vector<float> logits = random_logits(count, random), probabilities(logits.size());
        const double log_sum = softmax(logits, temperature, probabilities);
        std::vector<float> tempered = logits;
        for (float& l : tempered) l /= temperature;
        // Each quotient is rounded in both, and the largest is below 40 / T.
        EXPECT_NEAR(log_sum, log_sum_exp(tempered), (44 + 80 / temperature) * kRounding);
        const std::vector<double> expected = reference::softmax(logits, temperature);
        for (std::size_t i = 0; i < logits.size(); ++i) {
          // (logit - max) / T carries two roundings of itself into the exponent; both the term and the sum have them.
          const double exponent = -std::log(expected[i] + 1e-300) + 10.0;
          ASSERT_NEAR(probabilities[i], expected[i], kRounding * (4 * exponent + 12) * expected[i] + 1e-37);
        }
        EXPECT_NEAR(std::accumulate(probabilities.begin(), probabilities.end(), 0.0), 1.0, 8 * kRounding);
        softmax(logits, temperature, logits);
        EXPECT_EQ(logits, probabilities);
      }
    }
    std::vector<float> p(3);
    softmax(std::vector<float>{-kInfinity, 0.0F, kNan}, 1.0F, p);
    EXPECT_EQ(p, (std::vector<float>{0.0F, 1.0F, 0.0F}));
    softmax(std::vector<float>{1.0F, 0.0F, 0.5F}, 1e-40F, p);
    EXPECT_EQ(p, (std::vector<float>{1.0F, 0.0F, 0.0F}));
  });
}

TEST(Distribution, TopKIsTheHeadOfTheWholeOrder) {
  Random random(4);
  for (const std::int64_t count : {1, 10, 500, 5000}) {
    std::vector<float> logits = random_logits(count, random);
    for (float& v : logits) v = std::round(v);  // many ties
    if (count > 6) {
      logits[3] = kNan;
      logits[4] = kInfinity;
      logits[5] = -kInfinity;
      logits[6] = -0.0F;
    }
    std::vector<std::int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      const auto value = [&](std::int32_t i) {
        const float v = logits[static_cast<std::size_t>(i)];
        return std::isnan(v) ? -kInfinity : v;
      };
      return value(a) != value(b) ? value(a) > value(b) : a < b;
    });
    for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, count / 8, count / 2, count}) {
      std::vector<std::int32_t> indices(static_cast<std::size_t>(k));
      top_k(logits, indices);
      EXPECT_TRUE(std::equal(indices.begin(), indices.end(), order.begin())) << k << " of " << count;
    }
  }
  std::vector<std::int32_t> too_many(3);
  EXPECT_THROW(top_k(std::vector<float>{1.0F, 2.0F}, too_many), InternalError);
}

}  // namespace
}  // namespace krait::kernels
