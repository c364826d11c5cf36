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

TEST(StatePool, RefusesToForkAStateOfAnotherPool) {
  StatePool small(64);
  StatePool large(128);
  const StateSlot slot = small.acquire();
  EXPECT_THROW(large.fork(slot), InternalError);
}

}  // namespace
}  // namespace krait::runtime
