#include "krait/train/objective_loader.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>

#include "krait/train/objective_held_out.h"
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

  std::vector<DataSource> one_source() const {
    std::vector<DataSource> sources;
    sources.push_back({"kept", corpus(), 1});
    return sources;
  }

  static std::vector<WeightedObjective> all_objectives() {
    std::vector<WeightedObjective> all;
    for (const ObjectiveKind* kind : objective_kinds()) {
      all.push_back({std::string(kind->name), *make_objective(kind->name, {}, kTokens), 1});
    }
    return all;
  }

  ObjectiveLoader loader(std::vector<WeightedObjective> objectives, const ObjectiveLoaderOptions& options) const {
    auto made = ObjectiveLoader::make(one_source(), std::move(objectives), options);
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

TEST_F(ObjectiveLoaderTest, APlaceHasWeightsAndCounts) {
  const ObjectiveLoaderOptions options = {.batch = 2, .length = 128, .piece = 60, .seed = 5};
  ObjectiveLoader whole = loader(all_objectives(), options);
  ASSERT_TRUE(whole.next());
  const std::vector<double> later = {0, 0.25, 1, 0, 2, 0.5, 0, 1};
  ASSERT_TRUE(whole.set_weights(later));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(whole.next());
  const std::vector<std::uint64_t> place = whole.place();
  ObjectiveLoader again = loader(all_objectives(), options);
  ASSERT_TRUE(again.seek(place));
  EXPECT_EQ(again.weights(), later);
  EXPECT_EQ(std::vector(again.counts().begin(), again.counts().end()),
            std::vector(whole.counts().begin(), whole.counts().end()));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(again.next()->ids, whole.next()->ids);
  EXPECT_EQ(again.place(), whole.place());

  auto fewer = all_objectives();
  fewer.pop_back();
  ObjectiveLoader other = loader(std::move(fewer), options);
  EXPECT_FALSE(other.seek(place));
  auto heavier = all_objectives();
  heavier[0].weight = 2;  // another run, although the place has weights of its own
  ObjectiveLoader weighted = loader(std::move(heavier), options);
  EXPECT_FALSE(weighted.seek(place));
  auto corrupt = place;
  corrupt[corrupt.size() - 3] = std::bit_cast<std::uint64_t>(-1.0);
  EXPECT_FALSE(again.seek(corrupt));
}

// Which source a piece is of shows in its tokens: of the second source all are below 100.
TEST_F(ObjectiveLoaderTest, SourcesGiveTheirSharesOfThePieces) {
  TokenShardWriter writer(1000);
  Random random(2);
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(writer.add(std::vector<std::int32_t>(40, i + 30)));
  const std::vector<std::byte> bytes = writer.encode({}, "{}");
  const auto sources = [&] {
    std::vector<TokenShard> shards;
    shards.push_back(*TokenShard::parse(bytes, "low"));
    std::vector<DataSource> two = one_source();
    two.front().weight = 3;
    two.push_back({"low", *TokenCorpus::of(std::move(shards)), 1});
    return two;
  };
  const auto make = [&](std::int64_t rank, std::int64_t ranks, std::int64_t batch) {
    std::vector<WeightedObjective> one;
    one.push_back({"next_token", *make_objective("next_token", {}, kTokens), 1});
    return *ObjectiveLoader::make(
        sources(), std::move(one),
        {.batch = batch, .length = 400, .piece = 40, .seed = 3, .rank = rank, .ranks = ranks});
  };
  ObjectiveLoader data = make(0, 1, 4), first = make(0, 2, 2), second = make(1, 2, 2);
  std::int64_t low = 0, all = 0;
  for (int i = 0; i < 40; ++i) {
    const Batch batch = *data.next();
    for (const BatchSegment& segment : batch.segments) {
      if (segment.padding) continue;
      ++all;
      low += batch.ids[static_cast<std::size_t>(segment.first)] < 100 ? 1 : 0;
    }
    // Two processes have the rows of one between them.
    std::vector<std::int32_t> together = first.next()->ids;
    const std::vector<std::int32_t> others = second.next()->ids;
    together.insert(together.end(), others.begin(), others.end());
    EXPECT_EQ(together, batch.ids);
  }
  // At any time a source is within one piece of its share; pieces too short for the objective make no example.
  EXPECT_EQ(data.cursor().places.size(), 2U);
  const DataCursor::Place place = data.cursor().places[1];
  EXPECT_EQ(static_cast<std::int64_t>(place.epoch) * data.pieces(1) + static_cast<std::int64_t>(place.position), low);
  EXPECT_NEAR(static_cast<double>(low), static_cast<double>(all) / 4, 0.05 * static_cast<double>(all));
  EXPECT_EQ(first.cursor(), second.cursor());
}

TEST_F(ObjectiveLoaderTest, HeldOutPiecesAreTheSameForEveryObjective) {
  const HeldOutOptions options = {.batch = 4, .length = 256, .piece = 100, .pieces = 20};
  auto objectives = all_objectives();
  const auto held_out = hold_out(one_source(), objectives, options);
  ASSERT_TRUE(held_out) << held_out.error().message;
  ASSERT_EQ(held_out->size(), objectives.size());
  const auto texts = [](const HeldOutObjective& of) {
    std::vector<std::vector<std::int32_t>> all;
    for (const Batch& batch : of.batches) {
      for (const BatchSegment& segment : batch.segments) {
        if (segment.padding) continue;
        const auto begin = batch.ids.begin() + segment.first;
        const std::int64_t source = segment.prefix == 0 ? segment.rows : segment.prefix - 1;
        all.emplace_back(begin, begin + source);
      }
    }
    return all;
  };
  std::map<std::string, std::vector<std::vector<std::int32_t>>> of;
  for (const HeldOutObjective& objective : *held_out) {
    of[objective.name] = texts(objective);
    EXPECT_EQ(static_cast<std::int64_t>(of[objective.name].size()), objective.examples);
    EXPECT_LE(objective.examples, 20);
    std::int64_t labelled = 0;
    for (const Batch& batch : objective.batches) labelled += batch.labelled();
    EXPECT_GT(labelled, 0) << objective.name;
  }
  EXPECT_EQ(of["next_token"].size(), 20U);
  EXPECT_EQ(of["copying"], of["next_token"]);
  // Drawn once: the same whenever they are asked for.
  const auto again = hold_out(one_source(), objectives, options);
  for (std::size_t i = 0; i < objectives.size(); ++i) EXPECT_EQ(texts((*again)[i]), texts((*held_out)[i]));
  // Spans of a hundred tokens with delimiters of a thousand are in no piece.
  std::vector<WeightedObjective> impossible;
  impossible.push_back(
      {"selective_copying", *make_objective("selective_copying", {{"shortest_delimiter", 1000}}, kTokens), 1});
  const auto none = hold_out(one_source(), impossible, options);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("selective_copying"), std::string::npos);
}

TEST_F(ObjectiveLoaderTest, RefusesWhatCannotBe) {
  const auto refused = [&](std::vector<WeightedObjective> objectives, const ObjectiveLoaderOptions& options) {
    return !ObjectiveLoader::make(one_source(), std::move(objectives), options);
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
