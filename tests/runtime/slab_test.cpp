#include "krait/runtime/slab.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/random.h"

namespace krait::runtime {
namespace {

bool all(const std::byte* bytes, std::size_t count, int value) {
  return std::all_of(bytes, bytes + count, [&](std::byte b) { return b == static_cast<std::byte>(value); });
}

TEST(Slab, BlocksAreZeroAlignedAndApart) {
  Slab slab("state", 100, 8);
  std::vector<Block> blocks;
  for (int i = 0; i < 8; ++i) {
    blocks.push_back(slab.take());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(blocks.back().data()) % 64, 0U);
    EXPECT_TRUE(all(blocks.back().data(), 100, 0));
    std::fill_n(blocks.back().writable(), 100, static_cast<std::byte>(i + 1));
  }
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(all(blocks[static_cast<std::size_t>(i)].data(), 100, i + 1));
  EXPECT_EQ(slab.in_use(), 8U);
  EXPECT_EQ(slab.touched_bytes(), 8U * 128);
}

TEST(Slab, SaysWhenItIsFull) {
  Slab slab("state", 100, 2);
  const Block first = slab.take();
  Block second = slab.take();
  try {
    slab.take();
    FAIL() << "a third block of two";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "all 2 states of 100 bytes are in use");
  }
  second = Block();
  EXPECT_NO_THROW(second = slab.take());
}

TEST(Slab, AReusedBlockIsZeroAgain) {
  Slab slab("state", 100, 4);
  const std::byte* place = nullptr;
  {
    Block block = slab.take();
    place = block.data();
    std::fill_n(block.writable(), 100, std::byte{7});
  }
  EXPECT_EQ(slab.in_use(), 0U);
  const Block again = slab.take();
  EXPECT_EQ(again.data(), place);
  EXPECT_TRUE(all(again.data(), 100, 0));
}

TEST(Slab, OwnershipFollowsTheReferences) {
  Slab slab("state", 64, 4);
  Block first = slab.take();
  EXPECT_EQ(first.ownership(), Ownership::kExclusive);
  {
    const Block second = first;
    EXPECT_EQ(first.ownership(), Ownership::kShared);
    EXPECT_EQ(second.ownership(), Ownership::kShared);
    EXPECT_EQ(second.data(), first.data());
    EXPECT_EQ(slab.in_use(), 1U);
  }
  EXPECT_EQ(first.ownership(), Ownership::kExclusive);
  const Block moved = std::move(first);
  EXPECT_EQ(moved.ownership(), Ownership::kExclusive);
  EXPECT_EQ(Block().ownership(), Ownership::kFree);
}

TEST(Slab, WhoWritesToASharedBlockGetsACopy) {
  Slab slab("state", 64, 4);
  Block first = slab.take();
  first.writable()[3] = std::byte{42};
  Block second = first;
  second.writable()[3] = std::byte{1};
  EXPECT_NE(second.data(), first.data());
  EXPECT_EQ(first.data()[3], std::byte{42});
  EXPECT_EQ(second.data()[3], std::byte{1});
  const std::byte* own = first.data();
  EXPECT_EQ(first.writable(), own);  // its own by now
  EXPECT_EQ(slab.in_use(), 2U);
}

// Threads share, copy, write and drop blocks; what each wrote stays what it wrote.
TEST(Slab, ThreadsDoNotMeet) {
  Slab slab("state", 256, 64);
  Block common = slab.take();
  std::fill_n(common.writable(), 256, std::byte{200});
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Random random(static_cast<std::uint64_t>(t));
      for (int round = 0; round < 2000; ++round) {
        Block mine = random.next() % 2 == 0 ? slab.take() : common;
        std::fill_n(mine.writable(), 256, static_cast<std::byte>(t));
        const Block shared = mine;
        if (!all(shared.data(), 256, t)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(all(common.data(), 256, 200));
  EXPECT_EQ(slab.in_use(), 1U);
}

}  // namespace
}  // namespace krait::runtime
