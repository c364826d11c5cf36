#include "krait/kernels/token_loss.h"

#include <limits>

#include "krait/core/check.h"
#include "krait/kernels/embedding_backward.h"
#include "krait/kernels/reference/dense_product.h"
#include "krait/kernels/reference/token_loss.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/layer_gradient_testing.h"
#include "tests/kernels/wide_matrix.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

constexpr std::int64_t kPadding = 3;

// Every third row or so without a target.
std::vector<std::int32_t> some_targets(std::int64_t rows, std::int64_t vocabulary, Random& random) {
  std::vector<std::int32_t> targets;
  for (std::int64_t i = 0; i < rows; ++i) {
    const bool none = random.uniform() < 0.3;
    targets.push_back(none ? kNoTarget : static_cast<std::int32_t>(random.uniform() * static_cast<double>(vocabulary)));
  }
  return targets;
}

TEST(TokenLoss, OracleIsTheDerivativeOfTheLoss) {
  Random random(1);
  for (const auto& [z_factor, smoothing] : {std::pair{0.0, 0.0}, {0.3, 0.0}, {0.0, 0.2}, {0.3, 0.2}}) {
    WideMatrix hidden(6, 4), head(9 + kPadding, 4), dhidden(6, 4), dhead(9 + kPadding, 4);
    hidden.fill_normal(random);
    head.fill_normal(random);
    const std::vector<std::int32_t> targets = {8, 0, kNoTarget, 3, 3, kNoTarget};
    const std::vector<double> weights = {1.0, 0.5, 7.0, 0.0, 2.0, 1.0};
    const TokenLossOf<double> loss{
        .head = head.in(), .vocabulary = 9, .logit_scale = 0.7, .z_factor = z_factor, .smoothing = smoothing};
    reference::token_loss(loss, hidden.in(), targets, weights, nullptr, {.hidden = dhidden.out(), .head = dhead.out()});
    const auto value = [&] { return reference::token_loss(loss, hidden.in(), targets, weights, nullptr, {}).total(); };
    tests::expect_derivatives(hidden.values(), dhidden.values(), value);
    tests::expect_derivatives(head.values(), dhead.values(), value);
  }
}

struct Case {
  std::int64_t vocabulary;
  Matrix hidden, head;
  std::vector<std::int32_t> targets;
  std::vector<float> weights;
  TokenLoss loss;

  Case(std::int64_t rows, std::int64_t words, std::int64_t width, Random& random, float smoothing = 0.125F)
      : vocabulary(words), hidden(rows, width, 3, 1), head(words + kPadding, width, 1, 1) {
    hidden.fill_normal(random);
    head.fill_normal(random);
    // Padding that anybody reads shows itself.
    for (std::int64_t v = words; v < words + kPadding; ++v) {
      for (std::int64_t i = 0; i < width; ++i) head.at(v, i) = std::nanf("");
    }
    targets = some_targets(rows, words, random);
    for (std::int64_t i = 0; i < rows; ++i) weights.push_back(static_cast<float>(random.uniform()));
    loss = {.head = head.in(), .vocabulary = words, .logit_scale = 0.5F, .z_factor = 0.25F, .smoothing = smoothing};
  }
};

struct Result {
  std::vector<float> losses;
  Matrix hidden, head;
  TokenLossSums sums;

  Result(const Case& c, int threads)
      : losses(c.targets.size(), -1.0F),
        hidden(c.hidden.rows(), c.hidden.columns(), 2, 1),
        head(c.head.rows(), c.head.columns(), 1, 3) {
    ThreadPool pool(threads);
    hidden.fill([] { return 9.0; });
    head.fill([] { return 2.0; });
    sums = token_loss(pool, c.loss, c.hidden.in(), c.targets, c.weights, losses.data(),
                      {.hidden = hidden.out(), .head = head.out()});
    hidden.check_gaps();
    head.check_gaps();
  }
  void expect_same(const Result& other) const {
    tests::expect_same_bits(hidden, other.hidden);
    tests::expect_same_bits(head, other.head);
    EXPECT_EQ(losses, other.losses);
    EXPECT_EQ(sums.loss, other.sums.loss);
    EXPECT_EQ(sums.z_loss, other.sums.z_loss);
    EXPECT_EQ(sums.smoothing_loss, other.sums.smoothing_loss);
  }
};

// A logit is off by D + 2 roundings of its absolute terms, `inputs` more where the operands are rounded first; the log
// of the sum by the largest such error; a probability by both, in relative terms, and some 8 roundings. dl and the
// products after it add theirs.
void expect_matches_oracle(const Case& c, const Result& actual, double inputs = 0.0) {
  const std::int64_t rows = c.hidden.rows(), width = c.hidden.columns(), words = c.vocabulary;
  const WideMatrix hidden(c.hidden), head(c.head);
  const TokenLossOf<double> loss{.head = head.in(),
                                 .vocabulary = words,
                                 .logit_scale = c.loss.logit_scale,
                                 .z_factor = c.loss.z_factor,
                                 .smoothing = c.loss.smoothing};
  WideMatrix expected_hidden(rows, width), expected_head(words + kPadding, width);
  for (double& v : expected_head.values()) v = 2.0;
  std::vector<double> losses(c.targets.size());
  const std::vector<double> weights(c.weights.begin(), c.weights.end());
  const TokenLossSums sums = reference::token_loss(loss, hidden.in(), c.targets, weights, losses.data(),
                                                   {.hidden = expected_hidden.out(), .head = expected_head.out()});
  WideMatrix logits(rows, words), sizes(rows, words), dl(rows, words), dl_bound(rows, words);
  const WideMatrix hidden_size(c.hidden.absolute()), head_size(c.head.absolute());
  const Rows<const double> real_head = head.in().slice_rows(0, words), real_size = head_size.in().slice_rows(0, words);
  reference::dense_product({.b_transposed = true}, hidden.in(), real_head, logits.out());
  reference::dense_product({.b_transposed = true}, hidden_size.in(), real_size, sizes.out());
  const double scale = c.loss.logit_scale, roundings = static_cast<double>(width) + 3.0;
  double sum_bound = 0.0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto row = static_cast<std::size_t>(r);
    if (c.targets[row] == kNoTarget) {
      ASSERT_EQ(actual.losses[row], 0.0F);
      continue;
    }
    double largest = 0.0, sum = 0.0;
    for (std::int64_t v = 0; v < words; ++v) {
      largest = std::max(largest, scale * sizes.at(r, v) * (roundings * kRounding + 2.0 * inputs));
      sum += std::exp(scale * logits.at(r, v));
    }
    const double log_sum = std::log(sum),
                 value_bound = 2.0 * largest + 8.0 * kRounding * (1.0 + std::fabs(losses[row]));
    ASSERT_NEAR(actual.losses[row], losses[row], value_bound) << "row " << r;
    sum_bound += value_bound * (1.0 + 2.0 * c.loss.z_factor * (std::fabs(log_sum) + value_bound)) * weights[row];
    const double z_slope = 1.0 + 2.0 * c.loss.z_factor * log_sum;
    for (std::int64_t v = 0; v < words; ++v) {
      const double p = std::exp(scale * logits.at(r, v) - log_sum), factor = weights[row] * scale;
      const double smoothing = c.loss.smoothing;
      const double hit = smoothing / static_cast<double>(words) + (v == c.targets[row] ? 1.0 - smoothing : 0.0);
      // A smoothed share is rounded itself, and so is its product with the weight.
      const double of_hit = smoothing == 0.0 ? 2.0 : 4.0;
      dl.at(r, v) = std::fabs(factor * (p * z_slope - hit));
      const double z_error = 2.0 * c.loss.z_factor * value_bound;
      dl_bound.at(r, v) = factor * (p * (std::fabs(z_slope) * (2.5 * largest + 12.0 * kRounding) + z_error) +
                                    of_hit * kRounding * hit) +
                          inputs * dl.at(r, v);
    }
  }
  WideMatrix hidden_bound(rows, width), head_bound(words + kPadding, width);
  const auto add_bound = [&](const WideMatrix& of_dl, double factor) {
    WideMatrix scaled = of_dl;
    for (double& v : scaled.values()) v *= factor;
    reference::dense_product({.add = true}, scaled.in(), real_size, hidden_bound.out());
    reference::dense_product({.a_transposed = true, .add = true}, scaled.in(), hidden_size.in(),
                             head_bound.out().slice_rows(0, words));
  };
  add_bound(dl_bound, 1.0);
  add_bound(dl, kRounding * static_cast<double>(std::max(words, rows) + 3) + 1.01 * inputs);
  for (std::int64_t i = 0; i < width; ++i) {
    for (std::int64_t r = 0; r < rows; ++r) {
      ASSERT_NEAR(actual.hidden.at(r, i), expected_hidden.at(r, i), hidden_bound.at(r, i) + tests::kTiny)
          << "row " << r;
    }
    for (std::int64_t v = 0; v < words; ++v) {
      // What was there is rounded with every stretch of rows.
      const double before = 2.0 * kRounding * static_cast<double>(rows + 1);
      ASSERT_NEAR(actual.head.at(v, i), expected_head.at(v, i), head_bound.at(v, i) + before) << "word " << v;
    }
    for (std::int64_t v = words; v < words + kPadding; ++v) ASSERT_EQ(actual.head.at(v, i), 2.0F) << "padding";
  }
  EXPECT_EQ(actual.sums.rows, sums.rows);
  EXPECT_NEAR(actual.sums.weight, sums.weight, 1e-12);
  EXPECT_NEAR(actual.sums.loss, sums.loss, sum_bound);
  EXPECT_NEAR(actual.sums.z_loss, sums.z_loss, sum_bound);
  EXPECT_NEAR(actual.sums.smoothing_loss, sums.smoothing_loss, sum_bound);
}

TEST(TokenLoss, MatchesOracleInOneStretchAndInSeveral) {
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t rows : {0, 1, 17, 80}) {
      for (const std::int64_t words : {1, 5, 37, 130}) {
        for (const std::int64_t width : {1, 7, 33}) {
          for (const float smoothing : {0.0F, 0.125F}) {
            SCOPED_TRACE(::testing::Message()
                         << rows << " rows, " << words << " words, width " << width << ", smoothing " << smoothing);
            Case c(rows, words, width, random, smoothing);
            expect_matches_oracle(c, Result(c, 1));
            c.loss.most_logits = 16 * words;
            const Result one(c, 1);
            expect_matches_oracle(c, one);
            one.expect_same(Result(c, 2));
            one.expect_same(Result(c, 3));
          }
        }
      }
    }
  });
}

// bf16 keeps 8 bits: each operand of a product moves by 2^-9 at most.
TEST(TokenLoss, Bf16StaysWithinItsRounding) {
  if (!gemm_bf16_available()) GTEST_SKIP() << "skipped: no bf16 product on this CPU";
  Random random(3);
  Case c(40, 70, 24, random);
  c.loss.precision = ProductPrecision::kBF16;
  c.loss.most_logits = 16 * 70;
  const Result one(c, 1);
  // Both operands of a product, hence twice 2^-9 and their product.
  expect_matches_oracle(c, one, 2.01 * 0x1p-9);
  one.expect_same(Result(c, 2));
}

TEST(TokenLoss, WhatIsNotWantedChangesNothingElse) {
  ThreadPool pool(2);
  Random random(4);
  const Case c(30, 50, 12, random);
  const Result all(c, 2);
  Matrix hidden(30, 12), head(50 + kPadding, 12);
  head.fill([] { return 2.0; });
  token_loss(pool, c.loss, c.hidden.in(), c.targets, c.weights, nullptr, {.hidden = hidden.out()});
  tests::expect_same_bits(hidden, all.hidden);
  token_loss(pool, c.loss, c.hidden.in(), c.targets, c.weights, nullptr, {.head = head.out()});
  tests::expect_same_bits(head, all.head);
  const TokenLossSums sums = token_loss(pool, c.loss, c.hidden.in(), c.targets, c.weights, nullptr, {});
  EXPECT_EQ(sums.loss, all.sums.loss);
}

TEST(TokenLoss, UnlikelyTargetsAndHugeLogitsHaveFiniteLosses) {
  ThreadPool pool(1);
  Matrix hidden(1, 1), head(2, 1), dhidden(1, 1), dhead(2, 1);
  hidden.at(0, 0) = 1.0F;
  head.at(0, 0) = 3e4F;
  head.at(1, 0) = -3e4F;
  float loss = 0.0F;
  const std::vector<std::int32_t> target = {1};
  token_loss(pool, {.head = head.in(), .vocabulary = 2}, hidden.in(), target, {}, &loss,
             {.hidden = dhidden.out(), .head = dhead.out()});
  EXPECT_EQ(loss, 6e4F);
  EXPECT_EQ(dhidden.at(0, 0), 6e4F);
  EXPECT_EQ(dhead.at(0, 0), 1.0F);
  EXPECT_EQ(dhead.at(1, 0), -1.0F);
}

// A step that overflowed must not look like a good one.
TEST(TokenLoss, NanFlowsBackFromALossThatIsNotFinite) {
  ThreadPool pool(1);
  Random random(5);
  Case c(2, 9, 5, random);
  c.targets = {3, 4};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    c.hidden.at(1, 2) = bad;
    const Result result(c, 1);
    EXPECT_TRUE(std::isfinite(result.losses[0]));
    EXPECT_FALSE(std::isfinite(result.losses[1]));
    EXPECT_FALSE(std::isfinite(result.sums.loss));
    for (std::int64_t i = 0; i < 5; ++i) {
      EXPECT_TRUE(std::isfinite(result.hidden.at(0, i)));
      EXPECT_TRUE(std::isnan(result.hidden.at(1, i)));
      EXPECT_TRUE(std::isnan(result.head.at(3, i)));
    }
  }
}

TEST(TokenLoss, TargetOutsideTheVocabularyIsCaught) {
  ThreadPool pool(1);
  Random random(6);
  Case c(1, 4, 3, random);
  for (const std::int32_t bad : {-1, 4, -101}) {
    c.targets = {bad};
    EXPECT_THROW(token_loss(pool, c.loss, c.hidden.in(), c.targets, {}, nullptr, {}), InternalError) << bad;
  }
  c.targets = {3};
  c.loss.vocabulary = 8;
  EXPECT_THROW(token_loss(pool, c.loss, c.hidden.in(), c.targets, {}, nullptr, {}), InternalError);
}

TEST(EmbeddingBackward, AddsRowsOfOneIdInOrderOnAnyNumberOfThreads) {
  Random random(7);
  for (const std::int64_t width : {0, 1, 63, 200}) {
    Matrix dy(50, width, 2, 1);
    dy.fill_normal(random);
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < 50; ++i) ids.push_back(static_cast<std::int32_t>(random.uniform() * 7.0));
    Matrix expected(9, width);
    expected.fill([] { return 3.0; });
    for (std::int64_t i = 0; i < 50; ++i) {
      for (std::int64_t c = 0; c < width; ++c) expected.at(ids[static_cast<std::size_t>(i)], c) += dy.at(i, c);
    }
    WideMatrix wide(9, width);
    reference::embedding_backward(ids.data(), WideMatrix(dy).in(), wide.out());
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Matrix table(9, width, 1, 1);
      table.fill([] { return 3.0; });
      embedding_backward(pool, ids.data(), dy.in(), table.out());
      tests::expect_same_bits(table, expected);
      table.check_gaps();
      for (std::int64_t v = 0; v < 9; ++v) {
        // At most 50 additions to a sum that 50 draws of the normal distribution keep below 100.
        for (std::int64_t c = 0; c < width; ++c) {
          ASSERT_NEAR(table.at(v, c), 3.0 + wide.at(v, c), 50.0 * kRounding * 100.0);
        }
      }
    }
  }
  ThreadPool pool(1);
  Matrix dy(1, 4), table(3, 4);
  for (const std::int32_t bad : {-1, 3}) {
    EXPECT_THROW(embedding_backward(pool, &bad, dy.in(), table.out()), InternalError);
  }
}

}  // namespace
}  // namespace krait::kernels
