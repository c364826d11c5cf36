#include "krait/runtime/state_pool.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

constexpr std::uint64_t kMemory = 1 << 20;

bool all_zero(const std::byte* bytes, std::size_t count) {
  return std::all_of(bytes, bytes + count, [](std::byte b) { return b == std::byte{0}; });
}

TEST(StatePool, HoldsAsManyStatesAsItsMemory) {
  const StatePool pool(4096, 0, kMemory);
  EXPECT_EQ(pool.capacity(), 256U);
  EXPECT_EQ(pool.bytes_per_state(), 4096U);
  // A model that has been loaded can be used.
  EXPECT_GE(StatePool(2 * kMemory, 0, kMemory).capacity(), 1U);
}

TEST(StatePool, ACopySharesTheBundleUntilOneWrites) {
  StatePool pool(128, 0, kMemory);
  StateSlot slot = pool.acquire();
  EXPECT_TRUE(all_zero(slot.bundle(), 128));
  slot.make_room(0, 1, 4)[5] = std::byte{42};
  StateSlot copy = slot;
  EXPECT_EQ(copy.bundle(), slot.bundle());
  EXPECT_EQ(pool.states_in_use(), 1U);
  slot.make_room(1, 1, 4)[5] = std::byte{1};
  EXPECT_NE(copy.bundle(), slot.bundle());
  EXPECT_EQ(copy.bundle()[5], std::byte{42});
  EXPECT_EQ(slot.bundle()[5], std::byte{1});
  EXPECT_EQ(pool.states_in_use(), 2U);
}

// Pages of 4 tokens.
TEST(StatePool, ACopySharesPagesUntilOneIsWrittenTo) {
  StatePool pool(64, 128, kMemory);
  StateSlot slot = pool.acquire();
  EXPECT_TRUE(slot.pages().empty());
  slot.make_room(0, 6, 4);
  ASSERT_EQ(slot.pages().size(), 2U);
  for (std::byte* page : slot.pages()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(page) % 64, 0U);
    EXPECT_TRUE(all_zero(page, 128));
  }
  slot.pages()[1][7] = std::byte{42};
  StateSlot copy = slot;
  EXPECT_EQ(pool.pages_in_use(), 2U);
  // Two more tokens: the second page belongs to both and is copied, the first is never touched again.
  copy.make_room(6, 1, 4);
  EXPECT_EQ(pool.pages_in_use(), 3U);
  EXPECT_EQ(copy.pages()[0], slot.pages()[0]);
  ASSERT_NE(copy.pages()[1], slot.pages()[1]);
  EXPECT_EQ(copy.pages()[1][7], std::byte{42});
  copy.pages()[1][7] = std::byte{1};
  EXPECT_EQ(slot.pages()[1][7], std::byte{42});
  // Its own by now.
  std::byte* const own = copy.pages()[1];
  copy.make_room(7, 1, 4);
  EXPECT_EQ(copy.pages()[1], own);
  copy.make_room(8, 1, 4);
  EXPECT_EQ(copy.pages().size(), 3U);
}

TEST(StatePool, PagesComeBackEmpty) {
  StatePool pool(64, 128, kMemory);
  {
    StateSlot slot = pool.acquire();
    slot.make_room(0, 9, 4);
    for (std::byte* page : slot.pages()) std::fill_n(page, 128, std::byte{9});
    const StateSlot copy = slot;
    EXPECT_EQ(pool.pages_in_use(), 3U);
  }
  EXPECT_EQ(pool.pages_in_use(), 0U);
  EXPECT_EQ(pool.states_in_use(), 0U);
  StateSlot again = pool.acquire();
  again.make_room(0, 12, 4);
  for (std::byte* page : again.pages()) EXPECT_TRUE(all_zero(page, 128));
  EXPECT_THROW(again.make_room(20, 1, 4), InternalError);
}

TEST(StatePool, StatesThatDoNotGrowHaveNoPages) {
  StatePool pool(64, 0, kMemory);
  StateSlot slot = pool.acquire();
  slot.make_room(0, 1000, 4);
  EXPECT_TRUE(slot.pages().empty());
}

TEST(StatePool, KnowsItsOwnStates) {
  StatePool one(64, 0, kMemory);
  const StatePool other(64, 0, kMemory);
  const StateSlot slot = one.acquire();
  EXPECT_TRUE(slot.belongs_to(one));
  EXPECT_FALSE(slot.belongs_to(other));
}

}  // namespace
}  // namespace krait::runtime
