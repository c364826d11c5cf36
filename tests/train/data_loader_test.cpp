#include "krait/train/data_loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>

#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

// Shards are parsed in place, so their bytes have to live as long.
class LoaderTest : public ::testing::Test {
 protected:
  // Documents whose tokens tell which they are: token i of all is i.
  TokenCorpus numbered(std::initializer_list<std::int64_t> lengths, std::int32_t first = 0) {
    TokenShardWriter writer(kVocabulary);
    for (const std::int64_t length : lengths) {
      std::vector<std::int32_t> ids;
      for (std::int64_t i = 0; i < length; ++i) ids.push_back(first++);
      EXPECT_TRUE(writer.add(ids));
    }
    return corpus_of(writer);
  }

  TokenCorpus corpus_of(const TokenShardWriter& writer) {
    const auto& bytes = kept_.emplace_back(writer.encode({}, "{}"));
    std::vector<TokenShard> shards;
    shards.push_back(*TokenShard::parse(bytes, "kept"));
    return *TokenCorpus::of(std::move(shards));
  }

  DataLoader loader(std::vector<DataSource> sources, const DataLoaderOptions& options) {
    auto made = DataLoader::make(std::move(sources), options);
    EXPECT_TRUE(made) << made.error().message;
    return *std::move(made);
  }

  std::vector<DataSource> two_sources() {
    std::vector<DataSource> sources;
    sources.push_back({"a", numbered({5, 9, 30, 2, 2, 7}), 2});
    sources.push_back({"b", numbered({3, 3, 3, 11}, 500), 1});
    return sources;
  }

  static constexpr std::int64_t kVocabulary = 1000;
  std::list<std::vector<std::byte>> kept_;
};

// An initializer list would copy what can only be moved.
std::vector<DataSource> only(TokenCorpus corpus, std::string name = "a", double weight = 1) {
  std::vector<DataSource> sources;
  sources.push_back({std::move(name), std::move(corpus), weight});
  return sources;
}

void expect_same(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.segments, b.segments);
}

TEST_F(LoaderTest, AnEpochHasEveryTokenOnceAndLabelsAreWhatFollows) {
  DataLoader data = loader(only(numbered({5, 9, 30, 2, 2, 7})), {.batch = 3, .length = 8, .seed = 1, .repeat = false});
  std::map<std::int32_t, std::int32_t> label_of;
  for (Batch batch = *data.next(); batch.batch > 0; batch = *data.next()) {
    std::int64_t place = 0;
    for (const BatchSegment& segment : batch.segments) {
      EXPECT_EQ(segment.first, place);
      place += segment.rows;
      EXPECT_EQ(segment.first / 8, (place - 1) / 8) << "a segment across rows";
      for (std::int64_t i = segment.first; i < place; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (segment.padding) {
          EXPECT_EQ(batch.labels[at], kNoLabel);
        } else {
          EXPECT_TRUE(label_of.emplace(batch.ids[at], batch.labels[at]).second) << batch.ids[at] << " twice";
        }
      }
    }
    EXPECT_EQ(place, batch.batch * 8);
  }
  ASSERT_EQ(label_of.size(), 55U);
  const std::vector<std::int32_t> last_of_documents = {4, 13, 43, 45, 47, 54};
  for (const auto& [id, label] : label_of) {
    const bool last = std::ranges::find(last_of_documents, id) != last_of_documents.end();
    EXPECT_EQ(label, last ? kNoLabel : id + 1) << id;
  }
  EXPECT_EQ(data.cursor().tokens, 55U);
  EXPECT_EQ(data.cursor().rows, static_cast<std::uint64_t>(data.rows()));
}

TEST_F(LoaderTest, GoesOnFromACursorExactly) {
  const DataLoaderOptions options = {.batch = 2, .length = 8, .seed = 42};
  DataLoader whole = loader(two_sources(), options);
  std::vector<DataCursor> cursors;
  std::vector<Batch> batches;
  for (int i = 0; i < 40; ++i) {  // several epochs of both
    cursors.push_back(whole.cursor());
    batches.push_back(*whole.next());
  }
  EXPECT_GE(cursors.back().places[0].epoch, 2U);
  for (const std::size_t from : {0U, 1U, 7U, 20U, 39U}) {
    DataLoader again = loader(two_sources(), options);
    const auto cursor = DataCursor::from_numbers(cursors[from].numbers());
    ASSERT_TRUE(cursor);
    ASSERT_TRUE(again.seek(*cursor));
    for (std::size_t i = from; i < batches.size(); ++i) expect_same(*again.next(), batches[i]);
    EXPECT_EQ(again.cursor(), whole.cursor());
  }
  // The size of a batch may change on the way: rows come in the same order.
  DataLoader wider = loader(two_sources(), {.batch = 4, .length = 8, .seed = 42});
  ASSERT_TRUE(wider.seek(cursors[7]));
  const Batch wide = *wider.next();
  EXPECT_TRUE(std::equal(batches[7].ids.begin(), batches[7].ids.end(), wide.ids.begin()));
  EXPECT_TRUE(std::equal(batches[8].ids.begin(), batches[8].ids.end(), wide.ids.begin() + 16));
}

TEST_F(LoaderTest, SharesOfSourcesFollowTheWeights) {
  DataLoader data = loader(two_sources(), {.batch = 1, .length = 8, .seed = 3});
  int of_a = 0;
  for (int drawn = 1; drawn <= 300; ++drawn) {
    of_a += data.next()->ids[0] < 500 ? 1 : 0;
    EXPECT_LT(std::abs(of_a - drawn * 2.0 / 3), 1) << drawn;
  }
}

TEST_F(LoaderTest, RanksReadEachRowOnce) {
  DataLoader one = loader(two_sources(), {.batch = 6, .length = 8, .seed = 9});
  std::vector<DataLoader> three;
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    three.push_back(loader(two_sources(), {.batch = 2, .length = 8, .seed = 9, .rank = rank, .ranks = 3}));
  }
  for (int i = 0; i < 10; ++i) {
    std::vector<std::int32_t> joined;
    for (DataLoader& part : three) {
      const Batch batch = *part.next();
      joined.insert(joined.end(), batch.ids.begin(), batch.ids.end());
    }
    EXPECT_EQ(joined, one.next()->ids);
    EXPECT_EQ(three[0].cursor(), one.cursor());
    EXPECT_EQ(three[2].cursor(), one.cursor());
  }
}

TEST_F(LoaderTest, EpochsDifferInOrderButNotInContent) {
  DataLoader data = loader(only(numbered({8, 8, 8, 8, 8, 8, 8, 8, 8, 8})), {.batch = 10, .length = 8, .seed = 5});
  const Batch first = *data.next();
  const Batch second = *data.next();
  EXPECT_NE(first.ids, second.ids);
  auto a = first.ids, b = second.ids;
  std::ranges::sort(a);
  std::ranges::sort(b);
  EXPECT_EQ(a, b);
  DataLoader plain = loader(only(numbered({8, 8, 8})), {.batch = 3, .length = 8, .shuffle = false});
  EXPECT_TRUE(std::ranges::is_sorted(plain.next()->ids));
}

TEST_F(LoaderTest, RefusesCursorsOfOtherData) {
  const DataLoaderOptions options = {.batch = 2, .length = 8, .seed = 1};
  DataLoader data = loader(two_sources(), options);
  const DataCursor before = data.cursor();
  const auto refuses = [&](DataCursor cursor) { return !data.seek(cursor) && data.cursor() == before; };
  for (const DataLoaderOptions& other : {DataLoaderOptions{.batch = 2, .length = 9, .seed = 1},
                                         {.batch = 2, .length = 8, .seed = 2},
                                         {.batch = 2, .length = 8, .seed = 1, .shuffle = false}}) {
    EXPECT_TRUE(refuses(loader(two_sources(), other).cursor()));
  }
  EXPECT_TRUE(refuses(loader(only(numbered({5})), options).cursor()));
  DataCursor past = before;
  past.places[1].position = 1000;
  EXPECT_TRUE(refuses(past));
  EXPECT_FALSE(DataCursor::from_numbers(std::vector<std::uint64_t>{1, 2, 3, 4}));
  EXPECT_FALSE(DataCursor::from_numbers(std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(LoaderTest, RefusesSourcesAndOptionsByName) {
  const auto message = [](std::vector<DataSource> sources, const DataLoaderOptions& options) {
    const auto made = DataLoader::make(std::move(sources), options);
    return made ? std::string() : made.error().message;
  };
  EXPECT_NE(message({}, {}), "");
  EXPECT_NE(message(only(numbered({0}), "empty"), {}).find("'empty'"), std::string::npos);
  EXPECT_NE(message(only(numbered({3}), "w", -1), {}).find("-1"), std::string::npos);
  EXPECT_NE(message(only(numbered({3})), {.batch = 0}), "");
  EXPECT_NE(message(only(numbered({3})), {.batch = std::int64_t{1} << 40, .length = std::int64_t{1} << 40}), "");
  EXPECT_NE(message(only(numbered({3})), {.padding = 1000}).find("1000"), std::string::npos);
  EXPECT_NE(message(only(numbered({3})), {.rank = 2, .ranks = 2}), "");
  std::vector<DataSource> mixed;
  mixed.push_back({"a", numbered({3})});
  mixed.push_back({"b", corpus_of([] {
                     TokenShardWriter writer(5);
                     EXPECT_TRUE(writer.add(std::vector<std::int32_t>{1}));
                     return writer;
                   }())});
  EXPECT_NE(message(std::move(mixed), {}).find("'b'"), std::string::npos);
}

}  // namespace
}  // namespace krait::train
