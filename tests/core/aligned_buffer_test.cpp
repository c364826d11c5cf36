#include "krait/core/aligned_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>

namespace krait {
namespace {

bool is_aligned(const void* pointer, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0;
}

TEST(AlignedBuffer, IsAlignedAndZero) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65}, std::size_t{4097},
                                  AlignedBuffer::kHugePage - 1}) {
    AlignedBuffer buffer(bytes);
    EXPECT_EQ(buffer.size(), bytes);
    EXPECT_TRUE(is_aligned(buffer.data(), AlignedBuffer::kAlignment)) << bytes;
    EXPECT_TRUE(std::ranges::all_of(buffer.as<std::uint8_t>(), [](std::uint8_t byte) { return byte == 0; })) << bytes;
  }
}

TEST(AlignedBuffer, LargeOnesStartOnAHugePage) {
  for (const std::size_t bytes : {AlignedBuffer::kHugePage, AlignedBuffer::kHugePage + 1}) {
    AlignedBuffer buffer(bytes);
    EXPECT_EQ(buffer.size(), bytes);
    EXPECT_TRUE(is_aligned(buffer.data(), AlignedBuffer::kHugePage)) << bytes;
    EXPECT_TRUE(std::ranges::all_of(buffer.as<std::uint8_t>(), [](std::uint8_t byte) { return byte == 0; })) << bytes;
  }
}

TEST(AlignedBuffer, EmptyHoldsNothing) {
  const AlignedBuffer never;
  const AlignedBuffer zero(0);
  EXPECT_EQ(never.data(), nullptr);
  EXPECT_EQ(zero.data(), nullptr);
  EXPECT_EQ(zero.size(), 0U);
  EXPECT_TRUE(zero.as<float>().empty());
}

TEST(AlignedBuffer, SpanHoldsWholeElementsOnly) {
  AlignedBuffer buffer(11);
  EXPECT_EQ(buffer.as<float>().size(), 2U);
  EXPECT_EQ(std::as_const(buffer).as<std::uint16_t>().size(), 5U);
}

TEST(AlignedBuffer, MovingHandsTheMemoryOver) {
  AlignedBuffer first(8);
  first.as<std::int64_t>()[0] = 42;
  const std::byte* memory = first.data();

  AlignedBuffer second(std::move(first));
  EXPECT_EQ(second.data(), memory);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT(bugprone-use-after-move): emptiness after a move is what is tested
  EXPECT_EQ(first.size(), 0U);

  AlignedBuffer third(16);
  third = std::move(second);
  EXPECT_EQ(third.data(), memory);
  EXPECT_EQ(third.size(), 8U);
  EXPECT_EQ(third.as<std::int64_t>()[0], 42);
}

// Rounding such a size up to the alignment would wrap round to a small one.
TEST(AlignedBuffer, SizesNearTheLimitDoNotWrap) {
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  EXPECT_THROW(const AlignedBuffer buffer(kMost), std::bad_alloc);
  EXPECT_THROW(const AlignedBuffer buffer(kMost - 1000), std::bad_alloc);
}

}  // namespace
}  // namespace krait
