#include "krait/runtime/state_pool.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

bool all_zero(const StateSlot& slot, std::size_t bytes) {
  return std::all_of(slot.data(), slot.data() + bytes, [](std::byte b) { return b == std::byte{0}; });
}

TEST(StatePool, HandsOutZeroedStatesEvenWhenReused) {
  StatePool pool(256);
  const std::byte* first = nullptr;
  {
    StateSlot slot = pool.acquire();
    EXPECT_TRUE(all_zero(slot, 256));
    std::fill_n(slot.data(), 256, std::byte{7});
    first = slot.data();
  }
  const StateSlot again = pool.acquire();
  EXPECT_EQ(again.data(), first);
  EXPECT_TRUE(all_zero(again, 256));
}

TEST(StatePool, AForkIsACopyOfItsOwn) {
  StatePool pool(128);
  StateSlot slot = pool.acquire();
  slot.data()[5] = std::byte{42};
  StateSlot copy = pool.fork(slot);
  slot.data()[5] = std::byte{1};
  EXPECT_EQ(copy.data()[5], std::byte{42});
  EXPECT_NE(copy.data(), slot.data());
}

// Pages of 4 tokens.
TEST(StatePool, AForkSharesPagesUntilOneIsWrittenTo) {
  StatePool pool(64, 128);
  StateSlot slot = pool.acquire();
  EXPECT_TRUE(slot.pages().empty());
  slot.make_room(0, 6, 4);
  ASSERT_EQ(slot.pages().size(), 2U);
  for (std::byte* page : slot.pages()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(page) % 64, 0U);
    EXPECT_TRUE(std::all_of(page, page + 128, [](std::byte b) { return b == std::byte{0}; }));
  }
  slot.pages()[1][7] = std::byte{42};
  StateSlot copy = pool.fork(slot);
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
  StatePool pool(64, 128);
  {
    StateSlot slot = pool.acquire();
    slot.make_room(0, 9, 4);
    for (std::byte* page : slot.pages()) std::fill_n(page, 128, std::byte{9});
    StateSlot copy = pool.fork(slot);
    EXPECT_EQ(pool.pages_in_use(), 3U);
  }
  EXPECT_EQ(pool.pages_in_use(), 0U);
  StateSlot again = pool.acquire();
  again.make_room(0, 12, 4);
  for (std::byte* page : again.pages()) {
    EXPECT_TRUE(std::all_of(page, page + 128, [](std::byte b) { return b == std::byte{0}; }));
  }
  EXPECT_THROW(again.make_room(20, 1, 4), InternalError);
}

TEST(StatePool, StatesThatDoNotGrowHaveNoPages) {
  StatePool pool(64);
  StateSlot slot = pool.acquire();
  slot.make_room(0, 1000, 4);
  EXPECT_TRUE(slot.pages().empty());
}

TEST(StatePool, RefusesToForkAStateOfAnotherPool) {
  StatePool small(64);
  StatePool large(128);
  const StateSlot slot = small.acquire();
  EXPECT_THROW(large.fork(slot), InternalError);
}

}  // namespace
}  // namespace krait::runtime
