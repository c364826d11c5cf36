#include "krait/kernels/hax_ranking_loss.h"

#include <array>
#include <numbers>

#include "tests/kernels/derivative_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

const std::array<SequenceRows, 3> kSequences = {{{0, 150}, {150, 0}, {153, 40}}};
const std::array<std::vector<std::int64_t>, 3> kDrawn = {{{7, 149, 0, 64, 90}, {}, {153, 192, 170}}};

// Products are off by N + 1 roundings of their absolute sum and change a sigmoid by a quarter of that at most; the
// sigmoid by a few roundings (exp 1 ulp, a sum and a quotient), the sum of n by n more.
TEST(HaxRankingLoss, TargetsAreWhatLaterQueriesWant) {
  on_every_target([] {
    Random random(71);
    for (const std::int64_t width : {1, 5, 16, 130}) {
      Matrix q(193, width, 1, 1), k(193, width, 2);
      q.fill_normal(random, 0.7);
      k.fill_normal(random, 0.7);
      std::vector<float> targets(8), again(8);
      ThreadPool one(1), three(3);
      hax_ranking_targets(one, q.in(), k.in(), kSequences, kDrawn, targets);
      hax_ranking_targets(three, q.in(), k.in(), kSequences, kDrawn, again);
      EXPECT_EQ(targets, again);
      std::size_t at = 0;
      for (std::size_t s = 0; s < kDrawn.size(); ++s) {
        for (const std::int64_t j : kDrawn[s]) {
          double sum = 0.0, bound = 0.0;
          const std::int64_t end = kSequences[s].first_row + kSequences[s].rows;
          for (std::int64_t t = j; t < end; ++t) {
            double product = 0.0, absolute = 0.0;
            for (std::int64_t i = 0; i < width; ++i) {
              product += double{q.at(t, i)} * double{k.at(j, i)};
              absolute += std::fabs(double{q.at(t, i)} * double{k.at(j, i)});
            }
            sum += 1.0 / (1.0 + std::exp(-product));
            bound += static_cast<double>(width + 1) * absolute / 4.0;
          }
          bound += (static_cast<double>(end - j) + 5.0) * sum;
          EXPECT_NEAR(targets[at++], sum, kRounding * bound);
        }
      }
    }
  });
}

// Written out: all ordered pairs of both sequences, 5 * 5 + 3 * 3.
TEST(HaxRankingLoss, IsTheMeanOverAllPairs) {
  Random random(72);
  Matrix scores(193, 1, 1);
  scores.fill_normal(random, 3.0);
  const std::vector<float> targets = {3, 1, 2, 1, 0, 5, 6, 5};
  double sum = 0.0;
  std::size_t first = 0;
  for (const std::vector<std::int64_t>& rows : kDrawn) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t j = 0; j < rows.size(); ++j) {
        const double p = 1.0 / (1.0 + std::exp(double{scores.at(rows[j], 0)} - double{scores.at(rows[i], 0)}));
        const float left = targets[first + i], right = targets[first + j];
        const double y = (static_cast<double>(left > right) + static_cast<double>(left >= right)) / 2.0;
        sum -= y * std::log(p) + (1.0 - y) * std::log(1.0 - p);
      }
    }
    first += rows.size();
  }
  EXPECT_NEAR(hax_ranking_loss(scores.in(), kDrawn, targets), sum / 34.0, 1e-12);
  // In the right order and far apart only i = j is left, and the two that are wanted alike; then the loss of a pair is
  // log 2 as long as their scores are equal.
  const std::array<std::vector<std::int64_t>, 1> drawn = {{{0, 1, 2}}};
  scores.at(0, 0) = scores.at(1, 0) = 100.0F;
  scores.at(2, 0) = -100.0F;
  const std::vector<float> order = {2, 2, 1};
  EXPECT_NEAR(hax_ranking_loss(scores.in(), drawn, order), 5.0 / 9.0 * std::numbers::ln2, 1e-12);
}

TEST(HaxRankingLoss, BackwardIsTheDerivative) {
  Random random(73);
  Matrix scores(193, 1);
  scores.fill_normal(random, 2.0);
  const std::vector<float> targets = {3, 1, 2, 1, 0, 5, 6, 5};
  Expected values = tests::in_double(scores), gradient(193, 1);
  constexpr double kUpstream = -1.75;
  const auto loss = [&] { return kUpstream * hax_ranking_loss<double>(values.out(), kDrawn, targets); };
  hax_ranking_loss_backward<double>(values.out(), kSequences, kDrawn, targets, kUpstream, gradient.out());
  tests::expect_derivative(values, gradient, loss);
  // In f32: rounded once. Rows of no sequence keep what they had.
  Matrix rounded(193, 1, 2, 1);
  rounded.fill([] { return 7.0; });
  hax_ranking_loss_backward<float>(scores.in(), kSequences, kDrawn, targets, kUpstream, rounded.out());
  rounded.check_gaps();
  for (std::int64_t r = 0; r < 193; ++r) {
    const bool outside = r >= 150 && r < 153;
    EXPECT_EQ(rounded.at(r, 0), outside ? 7.0F : static_cast<float>(gradient.at(r, 0))) << r;
  }
}

TEST(HaxRankingLoss, NothingDrawnIsNoLoss) {
  Matrix scores(4, 1), gradient(4, 1);
  gradient.fill([] { return 7.0; });
  const std::array<SequenceRows, 1> sequences = {{{0, 4}}};
  const std::array<std::vector<std::int64_t>, 1> drawn;
  EXPECT_EQ(hax_ranking_loss(scores.in(), drawn, {}), 0.0);
  hax_ranking_loss_backward<float>(scores.in(), sequences, drawn, {}, 1.0, gradient.out());
  for (std::int64_t r = 0; r < 4; ++r) EXPECT_EQ(gradient.at(r, 0), 0.0F);
}

}  // namespace
}  // namespace krait::kernels
