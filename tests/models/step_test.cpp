#include "krait/models/step.h"

#include <gtest/gtest.h>

#include <array>

#include "krait/core/check.h"
#include "krait/models/state_layout.h"

namespace krait::models {
namespace {

TEST(Workspace, HandsOutAlignedMemoryThatDoesNotOverlap) {
  Workspace workspace;
  float* first = workspace.take(5);
  float* second = workspace.take(3'000'000);
  float* third = workspace.take(1);
  for (float* taken : {first, second, third}) EXPECT_EQ(reinterpret_cast<std::uintptr_t>(taken) % 64, 0U);
  first[4] = 1;
  second[2'999'999] = 2;
  third[0] = 3;
  EXPECT_EQ(first[4], 1);
  EXPECT_EQ(second[2'999'999], 2);
}

TEST(StateLayout, PagesStandBesideTheBundle) {
  StateLayout layout;
  EXPECT_EQ(layout.add("a", {3, 5}, DType::kF32, StateKind::kRecurrent), 0U);
  const kernels::KvShape shape = {.key_heads = 2, .key_width = 8, .value_heads = 1, .value_width = 20};
  // 64 tokens of 16 key components, and of 20 values padded to 32.
  const std::uint64_t page = 64 * 4 * (16 + 32);
  EXPECT_EQ(static_cast<std::uint64_t>(shape.page_bytes()), page);
  EXPECT_EQ(layout.add_paged("b", shape), 0U);
  EXPECT_EQ(layout.add_paged("c", shape), page);
  // A window of 66 tokens looks back over two pages from the first of a third.
  EXPECT_EQ(layout.add_ring("d", shape, 66), 64U);
  EXPECT_EQ(layout.bytes(), 64 + 3 * page);
  EXPECT_EQ(layout.page_bytes(), 2 * page);
  EXPECT_EQ(layout.pages_at(0), 0);
  EXPECT_EQ(layout.pages_at(64), 1);
  EXPECT_EQ(layout.pages_at(65), 2);
  EXPECT_EQ(layout.bytes_at(65), 64 + 3 * page + 4 * page);
  EXPECT_EQ(layout.tensors()[1].shape, (Shape{64, 36}));
  EXPECT_TRUE(layout.tensors()[1].paged);
  EXPECT_EQ(layout.tensors()[3].shape, (Shape{192, 36}));
  EXPECT_FALSE(layout.tensors()[3].paged);
}

TEST(Workspace, AStepOfTheSameSizeReusesTheMemory) {
  Workspace workspace;
  for (int i = 0; i < 4; ++i) workspace.take(1'000'000);
  workspace.reset();
  float* first = workspace.take(1'000'000);
  for (int i = 0; i < 3; ++i) workspace.take(1'000'000);
  workspace.reset();
  EXPECT_EQ(workspace.take(1'000'000), first);
}

TEST(Workspace, AMarkGivesBackWhatWasTakenAfterIt) {
  Workspace workspace;
  workspace.take(10);
  float* inside = nullptr;
  {
    const Workspace::Mark mark(workspace);
    inside = workspace.take(10);
    workspace.take(2'000'000);
  }
  EXPECT_EQ(workspace.take(10), inside);
}

TEST(Step, FlattensSegmentsAndListsWantedRows) {
  ThreadPool pool(1);
  Workspace workspace;
  std::array<std::byte, 64> a{};
  std::array<std::byte, 64> b{};
  const std::vector<std::int32_t> first = {1, 2, 3};
  const std::vector<std::int32_t> second = {4, 5};
  const std::array<Segment, 2> segments = {Segment{.state = a.data(), .tokens = first, .wanted_from = 2},
                                           Segment{.state = b.data(), .tokens = second, .position = 9}};
  Step step(pool, workspace, segments);
  EXPECT_EQ(std::vector(step.tokens().begin(), step.tokens().end()), (std::vector<std::int32_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(std::vector(step.wanted_rows().begin(), step.wanted_rows().end()), (std::vector<std::int64_t>{2, 3, 4}));
  const auto sequences = step.sequences(16);
  ASSERT_EQ(sequences.size(), 2U);
  EXPECT_EQ(sequences[1].first_row, 3);
  EXPECT_EQ(sequences[1].rows, 2);
  EXPECT_EQ(sequences[0].state, a.data() + 16);
}

TEST(Step, RefusesEmptySegments) {
  ThreadPool pool(1);
  Workspace workspace;
  std::array<std::byte, 64> state{};
  const std::array<Segment, 1> segments = {Segment{.state = state.data(), .tokens = {}}};
  EXPECT_THROW(Step(pool, workspace, segments), InternalError);
}

TEST(Step, RefusesTwoSegmentsOfOneState) {
  ThreadPool pool(1);
  Workspace workspace;
  std::array<std::byte, 64> state{};
  const std::vector<std::int32_t> ids = {1};
  const std::array<Segment, 2> segments = {Segment{.state = state.data(), .tokens = ids},
                                           Segment{.state = state.data(), .tokens = ids}};
  EXPECT_THROW(Step(pool, workspace, segments), InternalError);
}

TEST(StateLayout, PlacesTensorsAtCacheLines) {
  StateLayout layout;
  EXPECT_EQ(layout.add("a", {3}, DType::kF32, StateKind::kRecurrent), 0U);
  EXPECT_EQ(layout.add("b", {2, 16}, DType::kF32, StateKind::kConvWindow), 64U);
  EXPECT_EQ(layout.add("empty", {0, 16}, DType::kF32, StateKind::kConvWindow), 192U);
  EXPECT_EQ(layout.bytes(), 192U);
  EXPECT_EQ(layout.tensors()[1].name, "b");
}

}  // namespace
}  // namespace krait::models
