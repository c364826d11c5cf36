#include "krait/server/fair_shares.h"

#include <gtest/gtest.h>

#include "krait/core/check.h"

namespace krait::server {
namespace {

TEST(FairShares, ANewKeyStartsAtTheLeastOfTheActive) {
  FairShares shares;
  shares.enter("a");
  shares.charge("a", 100);
  shares.enter("b");
  EXPECT_EQ(shares.counter("b"), 100);
  shares.charge("b", 5);
  shares.enter("c");
  EXPECT_EQ(shares.counter("c"), 100);
}

TEST(FairShares, LeavingAndComingBackPaysNoDebt) {
  FairShares shares;
  shares.enter("a");
  shares.enter("greedy");
  shares.charge("greedy", 50);
  shares.leave("greedy");
  shares.enter("greedy");
  EXPECT_EQ(shares.counter("greedy"), 50);
}

TEST(FairShares, IdlingSavesNothingUp) {
  FairShares shares;
  shares.enter("a");
  shares.enter("idle");
  shares.leave("idle");
  shares.charge("a", 30);
  shares.enter("idle");
  EXPECT_EQ(shares.counter("idle"), 30);
}

TEST(FairShares, KeysThatOweNothingAreForgotten) {
  FairShares shares;
  shares.enter("stays");
  for (int i = 0; i < 1000; ++i) {
    const std::string key = "key " + std::to_string(i);
    shares.enter(key);
    shares.charge(key, 1);
    shares.leave(key);
    shares.charge("stays", 2);
  }
  shares.enter("another");
  EXPECT_LE(shares.remembered(), 3U);
  shares.leave("another");
  shares.leave("stays");
  EXPECT_EQ(shares.remembered(), 0U);
}

TEST(FairShares, LeavingMoreOftenThanEnteringIsOurMistake) {
  FairShares shares;
  EXPECT_THROW(shares.leave("nobody"), InternalError);
}

}  // namespace
}  // namespace krait::server
