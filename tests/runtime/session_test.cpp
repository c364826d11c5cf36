// Engine, session and text scores on a tiny model with random weights.
#include "krait/runtime/session.h"

#include <gtest/gtest.h>

#include <cmath>

#include "krait/core/error.h"
#include "krait/models/registry.h"
#include "krait/models/synthetic.h"
#include "krait/runtime/text_score.h"

namespace krait::runtime {
namespace {

std::unique_ptr<Engine> tiny_engine(EngineOptions options = {.threads = 1}) {
  const models::SyntheticShape shape{"tiny", "mamba2", 2, 16, 23, 8, 8};
  auto model = models::load_model(models::make_synthetic(shape, DType::kF32, 1));
  if (!model) throw std::runtime_error(model.error().message);
  return std::make_unique<Engine>(*std::move(model), options);
}

TEST(Session, StartsAtPositionZeroWithoutLogits) {
  const auto engine = tiny_engine();
  const Session session(*engine);
  EXPECT_EQ(session.position(), 0);
  EXPECT_TRUE(session.logits().empty());
}

TEST(Session, FeedingNothingChangesNothing) {
  const auto engine = tiny_engine();
  Session session(*engine);
  session.feed({});
  EXPECT_EQ(session.position(), 0);
  EXPECT_TRUE(session.logits().empty());
}

TEST(Session, FeedAndFeedEachEndAtTheSameLogits) {
  const auto engine = tiny_engine({.threads = 1, .prefill_chunk = 4});
  const std::vector<TokenId> ids = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  Session fed(*engine);
  fed.feed(ids);
  Session each(*engine);
  std::vector<std::int64_t> seen;
  each.feed_each(ids, [&](std::int64_t index, std::span<const float> row) {
    seen.push_back(index);
    EXPECT_EQ(row.size(), 23U);
  });
  EXPECT_EQ(seen, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(std::vector(fed.logits().begin(), fed.logits().end()),
            std::vector(each.logits().begin(), each.logits().end()));
  EXPECT_EQ(fed.position(), 9);
}

TEST(Session, RefusesTokensOutsideTheVocabularyAndKeepsItsState) {
  const auto engine = tiny_engine();
  Session session(*engine);
  const std::vector<TokenId> good = {1, 2};
  session.feed(good);
  for (const TokenId bad : {-1, 23, 1 << 30}) {
    const std::vector<TokenId> ids = {3, bad};
    try {
      session.feed(ids);
      FAIL() << "token " << bad << " was taken";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(std::to_string(bad)), std::string::npos);
      EXPECT_NE(error.hint().find("22"), std::string::npos);
    }
    EXPECT_EQ(session.position(), 2);
  }
}

TEST(Engine, RefusesAChunkOfNothing) { EXPECT_THROW(tiny_engine({.threads = 1, .prefill_chunk = 0}), UserError); }

TEST(TextScore, SumsWhatTheLogitsSayHoweverTheTextIsCut) {
  const auto engine = tiny_engine();
  const std::vector<TokenId> ids = {5, 1, 7, 7, 2, 22, 0, 3};
  double expected = 0;
  Session plain(*engine);
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    plain.feed({&ids[i], 1});
    double sum = 0;
    for (const float logit : plain.logits()) sum += std::exp(static_cast<double>(logit));
    expected += std::log(sum) - plain.logits()[static_cast<std::size_t>(ids[i + 1])];
  }
  for (const std::size_t cut : {1, 3, 8}) {
    Session session(*engine);
    TextScore score(session);
    for (std::size_t i = 0; i < ids.size(); i += cut) {
      score.feed(std::span(ids).subspan(i, std::min(cut, ids.size() - i)));
    }
    EXPECT_EQ(score.tokens(), 8);
    EXPECT_EQ(score.scored(), 7);
    EXPECT_NEAR(score.negative_log_likelihood(), expected, 1e-4 * expected) << "pieces of " << cut;
  }
}

}  // namespace
}  // namespace krait::runtime
