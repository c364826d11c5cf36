// Attention of every kind, with the rotation of its queries and keys.
#include "krait/nn/bmojo_attention.h"
#include "krait/nn/hax_attention.h"
#include "krait/nn/rotary.h"
#include "krait/nn/sequence_attention.h"
#include "tests/nn/gradient_check.h"

namespace krait::nn {
namespace {

using tests::check_gradients;
using tests::covered_rows;
using tests::Inputs;
using tests::Results;

const Segments& kSegments = tests::kPaddedSegments;
constexpr std::int64_t kRows = tests::kPaddedRows;

class NnAttention : public tests::RandomTensors {};

// softmax(q k^T / sqrt(D) + mask) v by libtorch, of one head in one segment.
TEST_F(NnAttention, IsSoftmaxOfScores) {
  const std::int64_t length = 6, width = 3;
  const Tensor q = normal({length, 2 * width}), k = normal({length, width}), v = normal({length, width});
  const Tensor out = causal_attention(q, k, v, {.query = 2, .key = 1}, {{0, length}}, 4, {2});
  Tensor hidden = at::full({length, length}, -std::numeric_limits<double>::infinity(), at::kDouble);
  for (std::int64_t t = 0; t < length; ++t) {
    for (std::int64_t j = 0; j < length; ++j) {
      const bool in_window = j <= t && j > t - 4, in_prefix = t < 2 && j < 2;
      if (in_window || in_prefix) hidden.index_put_({at::tensor({t}), at::tensor({j})}, at::tensor(0.0, at::kDouble));
    }
  }
  for (std::int64_t h = 0; h < 2; ++h) {
    const Tensor scores = q.narrow(1, h * width, width).matmul(k.t()) * double{1.0F / std::sqrt(3.0F)} + hidden;
    const Tensor expected = scores.softmax(1).matmul(v);
    EXPECT_LE(tests::largest_of(out.narrow(1, h * width, width) - expected), 1e-6);  // the scale is a float
  }
}

TEST_F(NnAttention, GradientsOfGroupedHeads) {
  for (const std::vector<std::int64_t>& prefixes : {std::vector<std::int64_t>(), {3, 0, 1}}) {
    for (const std::int64_t window : {0, 2}) {
      check_gradients({{{"q", normal({kRows, 4 * 3})}, {"k", normal({kRows, 2 * 3})}, {"v", normal({kRows, 2 * 2})}}},
                      [&](const Inputs& in) {
                        return Results{covered_rows(causal_attention(in("q"), in("k"), in("v"), {.query = 4, .key = 2},
                                                                     kSegments, window, prefixes),
                                                    kSegments)};
                      });
    }
  }
}

// Streams that share values; three sources, of which one has a delay and one chosen tokens. A tensor that stands in
// several places has the sum of what flows back.
TEST_F(NnAttention, GradientsOfSeveralSources) {
  const std::vector<std::vector<kernels::ChosenToken>> chosen = {
      {{.token = 0, .first = 2, .end = 5}, {.token = 2, .first = 1, .end = 3}},
      {},
      {{.token = 1, .first = 0, .end = 3}}};
  check_gradients({{{"q", normal({kRows, 4 * 2})},
                    {"q2", normal({kRows, 4 * 2})},
                    {"k", normal({kRows, 2 * 2})},
                    {"k2", normal({kRows, 2 * 2})},
                    {"v", normal({kRows, 3})},
                    {"v2", normal({kRows, 3})}}},
                  [&](const Inputs& in) {
                    const Tensor out = sequence_attention(
                        {.query = 4, .key = 2, .value = 1, .scale = 0.75},
                        {{.q = in("q"), .k = in("k"), .v = in("v"), .window = 2},
                         {.q = in("q2"), .k = in("k2"), .v = in("v2"), .window = 2, .delay = 2},
                         {.q = in("q"), .k = in("k"), .v = in("v"), .window = 0, .delay = 0, .chosen = chosen}},
                        kSegments);
                    return Results{covered_rows(out, kSegments)};
                  });
}

TEST_F(NnAttention, GradientsOfBmojo) {
  for (const std::int64_t eidetic : {0, 2}) {
    const BmojoAttention attention = {.heads = {.query = 2, .key = 1}, .window = 2, .eidetic = eidetic};
    const Segments segments = {{0, 7}, {7, 2}};
    check_gradients({{{"q", normal({kRows, 2 * 2})},
                      {"k", normal({kRows, 2})},
                      {"v", normal({kRows, 2})},
                      {"fk", normal({kRows, 2})},
                      {"fv", normal({kRows, 2})}}},
                    [&](const Inputs& in) {
                      return Results{bmojo_attention(attention, {.q = in("q"), .k = in("k"), .v = in("v")},
                                                     {.q = in("q"), .k = in("fk"), .v = in("fv")}, segments)};
                    });
  }
}

// A store as large as the sequence keeps every token that leaves the window: that is attention without a window.
TEST_F(NnAttention, BmojoWithALargeStoreSeesAll) {
  const std::int64_t rows = 8;
  const Tensor q = normal({rows, 2}), k = normal({rows, 2}), v = normal({rows, 2}),
               far = at::zeros({rows, 2}, at::kDouble);
  // What the recurrence made is at infinite distance: its keys point away from the queries.
  const Tensor queries = at::cat({q, at::ones({rows, 1}, at::kDouble)}, 1);
  const Tensor keys = at::cat({k, at::zeros({rows, 1}, at::kDouble)}, 1);
  const Tensor away = at::cat({far, at::full({rows, 1}, -1e4, at::kDouble)}, 1);
  const AttentionHeads heads = {.query = 1, .key = 1};
  const Tensor all = causal_attention(queries, keys, v, heads, {{0, rows}});
  const Tensor kept = bmojo_attention({.heads = heads, .window = 2, .eidetic = rows}, {.q = queries, .k = keys, .v = v},
                                      {.q = queries, .k = away, .v = normal({rows, 2})}, {{0, rows}});
  EXPECT_LE(tests::largest_of(all - kept), 1e-12);
}

TEST_F(NnAttention, RotationsTurnAndTurnBack) {
  for (const bool neighbours : {false, true}) {
    const kernels::Rotary rotary = {.width = 4, .theta = 100.0, .neighbours = neighbours};
    const auto run = [&](const Inputs& in) {
      const Tensor table = rotary_table(rotary, kSegments, kRows, in("x").scalar_type());
      return Results{rotate(rotary, table, 5, in("x"))};
    };
    const Tensor x = normal({kRows, 2 * 5});
    check_gradients({{{"x", x}}}, run);
    const Tensor turned = run({{{"x", x}}})[0];
    EXPECT_LE(tests::largest_of(turned.square().sum(1) - x.square().sum(1)), 1e-13);
    EXPECT_EQ(tests::largest_of(turned.narrow(0, 6, 1) - x.narrow(0, 6, 1)), 0.0);  // position 0
    EXPECT_GT(tests::largest_of(turned.narrow(0, 7, 1) - x.narrow(0, 7, 1)), 0.1);
  }
}

TEST_F(NnAttention, GradientsOfHax) {
  const std::int64_t states = 3, inner = 4;
  HaxChoice choice = {.hash_projection = normal({2, states}), .recent = 2, .selected = 2};
  const Tensor scores = normal({kRows, 1}), centred_q = normal({kRows, states}), centred_k = normal({kRows, states});
  const Tensor tokens = hax_choose_tokens(choice, centred_q, centred_k, scores, kSegments);
  check_gradients({{{"q", normal({kRows, states})},
                    {"k", normal({kRows, states})},
                    {"v", normal({kRows, inner})},
                    {"scale", normal({inner})}}},
                  [&](const Inputs& in) {
                    return Results{hax_attention(in("q"), in("k"), in("v"), in("scale"), tokens, kSegments)};
                  });
  // Selection alone with as many keys as there are rows reads all before: plain attention.
  choice = {.selected = 5};
  const Tensor all = hax_choose_tokens(choice, {}, {}, scores.narrow(0, 0, 5), {{0, 5}});
  const Tensor q = normal({5, states}), k = normal({5, states}), v = normal({5, inner});
  const Tensor read = hax_attention(q, k, v, at::ones({inner}, at::kDouble), all, {{0, 5}});
  EXPECT_LE(tests::largest_of(read - causal_attention(q, k, v, {.query = 1, .key = 1, .scale = 1.0}, {{0, 5}})), 1e-13);
}

TEST_F(NnAttention, GradientsOfTheRankingLoss) {
  const Tensor q = normal({kRows, 3}), k = normal({kRows, 3});
  const auto run = [&](const Inputs& in) {
    return Results{hax_ranking_loss(in("scores"), q, k, kSegments, {{4, 0, 1}, {}, {6, 8}})};
  };
  check_gradients({{{"scores", normal({kRows, 1})}}}, run);
  EXPECT_NEAR(run({{{"scores", at::zeros({kRows, 1}, at::kDouble)}}})[0].item<double>(), std::log(2.0), 1e-12);
  EXPECT_THROW(hax_ranking_loss(q.narrow(1, 0, 1), q, k, kSegments, {{5}, {}, {}}), UserError);
  EXPECT_THROW(hax_ranking_loss(q.narrow(1, 0, 1), q, k, kSegments, {{1, 1}, {}, {}}), UserError);
}

TEST_F(NnAttention, SaysWhatDoesNotFit) {
  const Tensor q = normal({4, 6}), k = normal({4, 3}), tokens = at::full({4, 2}, 3, at::kInt);
  EXPECT_THROW(causal_attention(q, k, k, {.query = 3, .key = 2}, {{0, 4}}), UserError);
  EXPECT_THROW(causal_attention(q, k, k, {.query = 3, .key = 1}, {{0, 4}}), UserError);
  EXPECT_THROW(causal_attention(q, k, k, {.query = 2, .key = 1}, {{0, 5}}), UserError);
  EXPECT_THROW(causal_attention(q, k, k, {.query = 2, .key = 1}, {{0, 4}}, 0, {5}), UserError);
  EXPECT_THROW(sequence_attention({.query = 2, .key = 1}, {}, {{0, 4}}), UserError);
  EXPECT_THROW(
      sequence_attention({.query = 2, .key = 1},
                         {{.q = q, .k = k, .v = k, .chosen = {{{.token = 4, .first = 0, .end = 4}}}}}, {{0, 4}}),
      UserError);
  EXPECT_THROW(hax_attention(k, k, q, at::ones({6}, at::kDouble), tokens, {{0, 4}}), UserError);
  EXPECT_THROW(rotate({.width = 4}, at::zeros({4, 4}, at::kDouble), 3, q), UserError);
}

}  // namespace
}  // namespace krait::nn
