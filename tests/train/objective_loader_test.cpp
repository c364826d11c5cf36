#include "krait/train/objective_loader.h"

#include <gtest/gtest.h>

#include <cmath>

#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

const ObjectiveTokens kTokens = {.end = 0, .separator = 1, .mask = 2, .first_sentinel = 3, .sentinels = 20};

class ObjectiveLoaderTest : public ::testing::Test {
 protected:
  ObjectiveLoaderTest() {
    TokenShardWriter writer(1000);
    Random random(1);
    for (int i = 0; i < 60; ++i) {
      std::vector<std::int32_t> ids;
      for (std::int64_t n = between(random, 1, 400); n > 0; --n) {
        ids.push_back(static_cast<std::int32_t>(between(random, 100, 999)));
      }
      EXPECT_TRUE(writer.add(ids));
    }
    bytes_ = writer.encode({}, "{}");
  }

  TokenCorpus corpus() const {
    std::vector<TokenShard> shards;
    shards.push_back(*TokenShard::parse(bytes_, "kept"));
    return *TokenCorpus::of(std::move(shards));
  }

  static std::vector<WeightedObjective> all_objectives() {
    std::vector<WeightedObjective> all;
    for (const ObjectiveKind* kind : objective_kinds()) {
      all.push_back({std::string(kind->name), *make_objective(kind->name, {}, kTokens), 1});
    }
    return all;
  }

  ObjectiveLoader loader(std::vector<WeightedObjective> objectives, const ObjectiveLoaderOptions& options) const {
    auto made = ObjectiveLoader::make(corpus(), std::move(objectives), options);
    EXPECT_TRUE(made) << made.error().message;
    return *std::move(made);
  }

  std::vector<std::byte> bytes_;
};

TEST_F(ObjectiveLoaderTest, GoesOnFromACursorExactly) {
  const ObjectiveLoaderOptions options = {.batch = 3, .length = 256, .piece = 100, .seed = 7};
  ObjectiveLoader whole = loader(all_objectives(), options);
  std::vector<DataCursor> cursors;
  std::vector<Batch> batches;
  for (int i = 0; i < 60; ++i) {
    cursors.push_back(whole.cursor());
    batches.push_back(*whole.next());
  }
  EXPECT_GE(cursors.back().places[0].epoch, 2U);
  for (const std::size_t from : {0U, 17U, 59U}) {
    ObjectiveLoader again = loader(all_objectives(), options);
    ASSERT_TRUE(again.seek(cursors[from]));
    for (std::size_t i = from; i < batches.size(); ++i) {
      const Batch batch = *again.next();
      EXPECT_EQ(batch.ids, batches[i].ids);
      EXPECT_EQ(batch.labels, batches[i].labels);
      EXPECT_EQ(batch.segments, batches[i].segments);
    }
    EXPECT_EQ(again.cursor(), whole.cursor());
  }
  ObjectiveLoader other = loader(all_objectives(), {.batch = 3, .length = 256, .piece = 101, .seed = 7});
  EXPECT_FALSE(other.seek(cursors[3]));
}

TEST_F(ObjectiveLoaderTest, RowsAreFilledAndLabelsStayInTheirSegments) {
  ObjectiveLoader data = loader(all_objectives(), {.batch = 4, .length = 512, .piece = 200, .seed = 1});
  std::int64_t tokens = 0, labelled = 0;
  for (int i = 0; i < 30; ++i) {
    const Batch batch = *data.next();
    tokens += batch.tokens();
    labelled += batch.labelled();
    for (const BatchSegment& segment : batch.segments) {
      for (std::int64_t t = segment.first; t < segment.first + segment.rows; ++t) {
        const bool silent = segment.padding || t + 1 < segment.first + segment.prefix;
        EXPECT_TRUE(!silent || batch.labels[static_cast<std::size_t>(t)] == kNoLabel);
      }
    }
  }
  EXPECT_GT(tokens, 30 * 4 * 512 * 8 / 10);
  EXPECT_GT(labelled, tokens / 5);
  EXPECT_LT(labelled, tokens);
}

TEST_F(ObjectiveLoaderTest, ObjectivesComeByTheirWeights) {
  std::vector<WeightedObjective> two;
  two.push_back({"next_token", *make_objective("next_token", {}, kTokens), 3});
  two.push_back({"prefix_language_modeling", *make_objective("prefix_language_modeling", {}, kTokens), 1});
  ObjectiveLoader data = loader(std::move(two), {.batch = 8, .length = 256, .piece = 40, .seed = 2});
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(data.next());
  const auto first = static_cast<double>(data.counts()[0].examples);
  const double all = first + static_cast<double>(data.counts()[1].examples);
  EXPECT_NEAR(first / all, 0.75, 5 * std::sqrt(0.75 * 0.25 / all));

  ASSERT_TRUE(data.set_weights(std::vector<double>{0, 1}));
  const auto before = data.counts()[0].examples;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(data.next());
  EXPECT_EQ(data.counts()[0].examples, before);
  EXPECT_FALSE(data.set_weights(std::vector<double>{0, 0}));
  EXPECT_FALSE(data.set_weights(std::vector<double>{-1, 2}));
  EXPECT_FALSE(data.set_weights(std::vector<double>{1}));
}

TEST_F(ObjectiveLoaderTest, RefusesWhatCannotBe) {
  const auto refused = [&](std::vector<WeightedObjective> objectives, const ObjectiveLoaderOptions& options) {
    return !ObjectiveLoader::make(corpus(), std::move(objectives), options);
  };
  EXPECT_TRUE(refused({}, {}));
  EXPECT_TRUE(refused(all_objectives(), {.batch = 0}));
  EXPECT_TRUE(refused(all_objectives(), {.piece = 0}));
  EXPECT_TRUE(refused(all_objectives(), {.padding = 1000}));
  auto negative = all_objectives();
  negative[0].weight = -1;
  EXPECT_TRUE(refused(std::move(negative), {}));
}

}  // namespace
}  // namespace krait::train
