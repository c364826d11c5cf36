#include "krait/train/batch.h"

#include <gtest/gtest.h>

#include "krait/core/check.h"

namespace krait::train {
namespace {

TEST(Batch, SegmentsCoverEveryPlaceOnce) {
  BatchBuilder builder(2, 5, 9);
  builder.add(1, Example{{1, 2, 3}, {2, 3, kNoLabel}, 2});
  builder.add(0, Example{{4, 5}, {5, kNoLabel}, 0});
  builder.add(1, Example{{6, 7}, {7, kNoLabel}, 0});
  const Batch batch = builder.finish();
  EXPECT_EQ(batch.ids, (std::vector<std::int32_t>{4, 5, 9, 9, 9, 1, 2, 3, 6, 7}));
  EXPECT_EQ(batch.labels, (std::vector<std::int32_t>{5, -100, -100, -100, -100, 2, 3, -100, 7, -100}));
  EXPECT_EQ(batch.segments,
            (std::vector<BatchSegment>{{0, 2, 0, false}, {2, 3, 0, true}, {5, 3, 2, false}, {8, 2, 0, false}}));
  EXPECT_EQ(batch.tokens(), 7);
  EXPECT_EQ(batch.labelled(), 4);
}

TEST(Batch, RefusesWhatDoesNotFit) {
  BatchBuilder builder(1, 3, 0);
  builder.add(0, Example{{1, 2}, {2, 3}, 0});
  EXPECT_EQ(builder.space(0), 1);
  EXPECT_THROW(builder.add(0, Example{{1, 2}, {2, 3}, 0}), InternalError);
  EXPECT_THROW(builder.add(0, Example{{}, {}, 0}), InternalError);
  EXPECT_THROW(builder.add(1, Example{{1}, {2}, 0}), InternalError);
  EXPECT_THROW(builder.add(0, Example{{1}, {2}, 2}), InternalError);
  EXPECT_THROW(builder.add(0, Example{{1}, {}, 0}), InternalError);
}

TEST(Batch, OfExamplesHasOneARow) {
  const std::vector<Example> examples = {{{1, 2}, {2, 3}, 1}, {{4, 5, 6}, {5, 6, 7}, 0}};
  const Batch batch = batch_of(examples, 3, 0);
  EXPECT_EQ(batch.batch, 2);
  EXPECT_EQ(batch.ids, (std::vector<std::int32_t>{1, 2, 0, 4, 5, 6}));
  EXPECT_EQ(batch.segments.size(), 3U);
  EXPECT_EQ(batch.segments[0].prefix, 1);
}

}  // namespace
}  // namespace krait::train
