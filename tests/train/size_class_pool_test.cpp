#include "krait/train/size_class_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "krait/core/random.h"
#include "tests/formats/error_expectation.h"

namespace krait::train {
namespace {

constexpr std::size_t kPage = SizeClassPool::kPage;

TEST(SizeClassPool, BlocksAreWholeAlignedPagesAndNoMore) {
  SizeClassPool pool;
  for (const std::size_t bytes :
       {std::size_t{1}, kPage - 1, kPage, kPage + 1, (std::size_t{2} << 20) + 1, (std::size_t{5} << 20) - 100}) {
    KRAIT_ASSERT_VALUE(const PoolBlock block, pool.take(bytes));
    EXPECT_EQ(block.bytes().size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.bytes().data()) % kPage, 0U);
    EXPECT_EQ(block.pages().size(), (bytes + kPage - 1) / kPage * kPage);
    std::ranges::fill(block.pages(), std::byte{1});
    EXPECT_EQ(pool.use().asked, bytes);
    EXPECT_EQ(pool.use().held, block.pages().size()) << "no power of two, no huge page";
  }
  pool.trim();
  EXPECT_EQ(pool.use().reserved, 0U);
}

TEST(SizeClassPool, ABlockServesItsClassAndThoseJustBelow) {
  SizeClassPool pool;
  const std::byte* first = nullptr;
  {
    KRAIT_ASSERT_VALUE(const PoolBlock block, pool.take(32 * kPage));
    first = block.bytes().data();
  }
  {
    KRAIT_ASSERT_VALUE(const PoolBlock same, pool.take(32 * kPage - 5));
    EXPECT_EQ(same.bytes().data(), first);
    KRAIT_ASSERT_VALUE(const PoolBlock second, pool.take(32 * kPage));
    EXPECT_NE(second.bytes().data(), first) << "that one is in use";
  }
  pool.trim();
  {
    KRAIT_ASSERT_VALUE(const PoolBlock block, pool.take(32 * kPage));
  }
  {
    KRAIT_ASSERT_VALUE(const PoolBlock smaller, pool.take(30 * kPage));
    EXPECT_EQ(pool.use().reserved, 32 * kPage) << "two pages of 32 are a sixteenth";
    EXPECT_EQ(smaller.bytes().size(), 30 * kPage);
  }
  KRAIT_ASSERT_VALUE(const PoolBlock small, pool.take(29 * kPage));
  EXPECT_EQ(pool.use().reserved, (32 + 29) * kPage) << "three pages are more";
}

TEST(SizeClassPool, AnExactOneFitsWhatTheSumSays) {
  SizeClassPool pool(62 * kPage, SizeClassPool::Fit::kExact);
  {
    KRAIT_ASSERT_VALUE(const PoolBlock block, pool.take(32 * kPage));
  }
  KRAIT_ASSERT_VALUE(const PoolBlock smaller, pool.take(30 * kPage));
  EXPECT_EQ(pool.use().held, 30 * kPage);
  KRAIT_ASSERT_VALUE(const PoolBlock larger, pool.take(32 * kPage));
  EXPECT_EQ(pool.use().held, 62 * kPage);
}

TEST(SizeClassPool, TheLimitHoldsAndUnusedBlocksGiveWay) {
  SizeClassPool pool(10 * kPage);
  {
    KRAIT_ASSERT_VALUE(const PoolBlock unused, pool.take(6 * kPage));
  }
  KRAIT_ASSERT_VALUE(const PoolBlock block, pool.take(8 * kPage));
  EXPECT_EQ(pool.use().reserved, 8 * kPage);
  EXPECT_EQ(pool.use().peak_reserved, 8 * kPage);
  tests::expect_error(pool.take(3 * kPage), ErrorCode::kResourceExhausted, {"12288", "32768 of the 40960"});
  tests::expect_error(pool.take(SIZE_MAX), ErrorCode::kResourceExhausted, {"addresses"});
  KRAIT_ASSERT_VALUE(const PoolBlock rest, pool.take(2 * kPage));
  EXPECT_EQ(pool.use().peak_asked, 10 * kPage);
}

TEST(SizeClassPool, ThreadsTakeAndGiveBack) {
  SizeClassPool pool(64 * kPage);
  std::vector<std::thread> threads;
  std::atomic<int> foreign = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, &foreign, t] {
      Random random(static_cast<std::uint64_t>(t));
      for (int i = 0; i < 500; ++i) {
        auto block = pool.take(1 + random.next() % (8 * kPage));
        if (!block) continue;
        std::ranges::fill(block->bytes(), static_cast<std::byte>(t));
        std::this_thread::yield();
        foreign += std::ranges::any_of(block->bytes(), [&](std::byte b) { return b != static_cast<std::byte>(t); });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(foreign, 0);
  EXPECT_EQ(pool.use().held, 0U);
  EXPECT_LE(pool.use().peak_reserved, 64 * kPage);
}

}  // namespace
}  // namespace krait::train
