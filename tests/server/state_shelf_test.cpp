#include "krait/server/state_shelf.h"

#include <gtest/gtest.h>

namespace krait::server {
namespace {

using namespace std::chrono_literals;

const ShelfClock::time_point kStart{};

ApiResult<KeptState> put(StateShelf& shelf, const std::string& owner, const KeyLimits& limits = {},
                         std::uint64_t bytes = 10, std::optional<double> ttl = std::nullopt) {
  return shelf.put(owner, limits, runtime::State(), {1, 2}, bytes, ttl, kStart);
}

TEST(StateShelf, OnlyTheOwnerFindsAState) {
  StateShelf shelf({}, 1);
  const auto kept = put(shelf, "alice");
  ASSERT_TRUE(kept);
  EXPECT_TRUE(StateShelf::fit_for_id(kept->id));
  EXPECT_TRUE(shelf.find(kept->id, "alice", kStart));
  const auto stranger = shelf.find(kept->id, "bob", kStart);
  ASSERT_FALSE(stranger);
  EXPECT_EQ(stranger.error().status, 404);
  EXPECT_FALSE(shelf.drop(kept->id, "bob", kStart));
  EXPECT_TRUE(shelf.list("bob", kStart).empty());
  EXPECT_TRUE(shelf.drop(kept->id, "alice", kStart));
  EXPECT_FALSE(shelf.find(kept->id, "alice", kStart));
}

TEST(StateShelf, TimeEndsAState) {
  StateShelf shelf({.ttl = 100s, .longest_ttl = 1000s}, 1);
  const auto plain = put(shelf, "a"), brief = put(shelf, "a", {}, 10, 5.0), endless = put(shelf, "a", {}, 10, 1e20);
  EXPECT_TRUE(shelf.find(brief->id, "a", kStart + 4s));
  EXPECT_FALSE(shelf.find(brief->id, "a", kStart + 5s));
  EXPECT_TRUE(shelf.find(plain->id, "a", kStart + 99s));
  EXPECT_FALSE(shelf.find(plain->id, "a", kStart + 100s));
  EXPECT_TRUE(shelf.find(endless->id, "a", kStart + 999s));
  EXPECT_EQ(shelf.totals(kStart + 1000s).states, 0u);
  EXPECT_EQ(shelf.totals(kStart + 1000s).expired, 3u);
}

TEST(StateShelf, QuotasHold) {
  StateShelf shelf({.states = 3}, 1);
  const KeyLimits two{.states = 2}, bytes{.state_bytes = 25};
  ASSERT_TRUE(put(shelf, "a", two));
  ASSERT_TRUE(put(shelf, "a", two));
  const auto third = put(shelf, "a", two);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().status, 507);
  EXPECT_FALSE(put(shelf, "b", bytes, 26));
  ASSERT_TRUE(put(shelf, "b", bytes, 20));
  EXPECT_FALSE(put(shelf, "b", bytes, 6));
  EXPECT_FALSE(put(shelf, "c"));  // the shelf is full
}

TEST(StateShelf, AnIdOfOnesOwnIsReplacedAndOthersAreNot) {
  StateShelf shelf({}, 1);
  const KeyLimits one{.states = 1};
  ASSERT_TRUE(shelf.put_as("mine", "a", one, {}, {1}, 10, {}, kStart));
  ASSERT_TRUE(shelf.put_as("mine", "a", one, {}, {1, 2}, 10, {}, kStart));
  EXPECT_EQ(shelf.find("mine", "a", kStart)->tokens.size(), 2u);
  const auto taken = shelf.put_as("mine", "b", one, {}, {}, 10, {}, kStart);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().status, 409);
}

TEST(StateShelf, IdsAreTold) {
  EXPECT_TRUE(StateShelf::fit_for_id("st_0-A"));
  for (const std::string& id :
       {std::string(), std::string("a/b"), std::string("a b"), std::string("ä"), std::string(65, 'a')}) {
    EXPECT_FALSE(StateShelf::fit_for_id(id)) << id;
  }
}

}  // namespace
}  // namespace krait::server
