// Hidden states are what the head reads, of every architecture, and a vector of them does not depend on cuts.
#include "krait/runtime/pooling.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/runtime/stored_states.h"
#include "tests/support/golden_logits.h"
#include "tests/support/tiny_models.h"

namespace krait::runtime {
namespace {

class Hidden : public testing::TestWithParam<models::SyntheticShape> {};

std::vector<std::vector<float>> rows_of(const OutputRows& rows) {
  std::vector<std::vector<float>> out;
  for (std::int64_t i = 0; i < rows.rows; ++i) out.emplace_back(rows.row(i).begin(), rows.row(i).end());
  return out;
}

TEST_P(Hidden, LogitsAreTheHeadOfThem) {
  const auto engine = tests::make_engine(GetParam(), {.threads = 2, .prefill_chunk = 64});
  const auto tokens = tests::random_tokens(50, GetParam().vocabulary, 3);
  Session plain(*engine), asked(*engine);
  const StepRequest for_logits{&plain, tokens, 20};
  const auto expected = rows_of(engine->step({&for_logits, 1}).logits);
  const StepRequest for_hidden{&asked, tokens, 20, StepOutput::kHidden};
  const StepRows got = engine->step({&for_hidden, 1});
  EXPECT_EQ(got.logits.rows, 0);
  ASSERT_EQ(got.hidden.rows, 30);
  ASSERT_EQ(got.hidden.columns, GetParam().width);
  // In low-rank factors in their authors' layout rows depend on each other, but not here: the cut is the same.
  EXPECT_EQ(rows_of(engine->logits_of(got.hidden)), expected);
}

// To the bit; within rounding where the model says that rows depend on the batch or the cut.
void expect_agree(const Engine& engine, const std::vector<std::vector<float>>& got,
                  const std::vector<std::vector<float>>& expected) {
  if (engine.model().batch_dependence().empty()) {
    EXPECT_EQ(got, expected);
  } else {
    EXPECT_LE(tests::relative_error(got, expected), tests::kF32Tolerance);
  }
}

TEST_P(Hidden, StandBesideLogitsOfOthersInAStep) {
  const auto engine = tests::make_engine(GetParam(), {.threads = 2, .prefill_chunk = 64});
  const auto tokens = tests::random_tokens(40, GetParam().vocabulary, 4);
  const auto others = tests::random_tokens(9, GetParam().vocabulary, 5);
  Session alone(*engine), other_alone(*engine), pooled(*engine), other(*engine), third(*engine);
  const StepRequest one{&alone, tokens, 0, StepOutput::kHidden};
  const auto hidden = rows_of(engine->step({&one, 1}).hidden);
  const StepRequest two{&other_alone, others, 8};
  const auto logits = rows_of(engine->step({&two, 1}).logits);
  const std::vector<StepRequest> together = {
      {&pooled, tokens, 0, StepOutput::kHidden}, {&other, others, 8}, {&third, others, 9, StepOutput::kHidden}};
  const StepRows rows = engine->step(together);
  expect_agree(*engine, rows_of(rows.hidden), hidden);
  expect_agree(*engine, rows_of(rows.logits), logits);
  const auto before = rows_of(rows.logits);
  // The step's logits stay when the head is asked for more.
  engine->logits_of(rows.hidden.slice(3, 2));
  EXPECT_EQ(rows_of(rows.logits), before);
}

std::vector<float> pooled(Engine& engine, Pooling pooling, std::span<const TokenId> tokens, std::size_t piece) {
  Session session(engine);
  Pooler pooler(pooling, engine);
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min(piece, tokens.size()));
    tokens = tokens.subspan(part.size());
    const StepRequest request{&session, part, pooler.wanted_from(std::ssize(part), tokens.empty()),
                              StepOutput::kHidden};
    pooler.add(engine.step({&request, 1}).hidden);
  }
  return pooler.result(session.snapshot());
}

TEST_P(Hidden, AVectorOfChunksIsThatOfTheWhole) {
  const auto engine = tests::make_engine(GetParam(), {.threads = 1, .prefill_chunk = 512});
  const auto tokens = tests::random_tokens(200, GetParam().vocabulary, 6);
  const auto mean = pooled(*engine, Pooling::mean, tokens, 200);
  expect_agree(*engine, {pooled(*engine, Pooling::mean, tokens, 64)}, {mean});
  expect_agree(*engine, {pooled(*engine, Pooling::mean, tokens, 128)}, {mean});
  expect_agree(*engine, {pooled(*engine, Pooling::last, tokens, 64)}, {pooled(*engine, Pooling::last, tokens, 200)});
  // By itself: the mean of the rows, in double.
  Session session(*engine);
  const StepRequest request{&session, tokens, 0, StepOutput::kHidden};
  const auto rows = rows_of(engine->step({&request, 1}).hidden);
  for (std::size_t c = 0; c < mean.size(); ++c) {
    double sum = 0;
    for (const auto& row : rows) sum += static_cast<double>(row[c]);
    EXPECT_EQ(mean[c], static_cast<float>(sum / 200.0));
  }
  expect_agree(*engine, {pooled(*engine, Pooling::last, tokens, 64)}, {rows.back()});
}

INSTANTIATE_TEST_SUITE_P(Architectures, Hidden, testing::ValuesIn(tests::kTinyModels), [](const auto& info) {
  std::string name(info.param.name);
  std::erase(name, '-');
  return name;
});

TEST(Pooling, TheStateIsThatOfTheLastLayer) {
  const auto engine = tests::make_engine(tests::kStoredModel);
  const auto tokens = tests::random_tokens(20, 23, 1);
  const auto vector = pooled(*engine, Pooling::state, tokens, 20);
  const State state = tests::state_behind(*engine, tokens);
  const models::StateTensor* last = nullptr;
  for (const auto& tensor : engine->model().state_layout().tensors()) {
    if (tensor.kind == models::StateKind::kRecurrent) last = &tensor;
  }
  ASSERT_NE(last, nullptr);
  ASSERT_EQ(vector.size() * sizeof(float), last->bytes);
  EXPECT_EQ(std::memcmp(vector.data(), state.bundle() + last->offset, last->bytes), 0);
}

TEST(Pooling, AModelWithoutARecurrentStateRefuses) {
  const auto* lfm2 = std::ranges::find(tests::kTinyModels, "tiny-lfm2", &models::SyntheticShape::name);
  const auto engine = tests::make_engine(*lfm2);
  EXPECT_THROW(Pooler(Pooling::state, *engine), UserError);
  EXPECT_NO_THROW(Pooler(Pooling::mean, *engine));
}

TEST(Pooling, ItsWords) {
  for (const Pooling pooling : {Pooling::mean, Pooling::last, Pooling::state}) {
    EXPECT_EQ(parse_pooling(to_string(pooling)), pooling);
  }
  EXPECT_FALSE(parse_pooling("max"));
}

}  // namespace
}  // namespace krait::runtime
