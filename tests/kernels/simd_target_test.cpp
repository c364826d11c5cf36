#include "krait/kernels/simd_target.h"

#include <gtest/gtest.h>

namespace krait::kernels {
namespace {

TEST(SimdTarget, BestIsActiveUntilForced) {
  const auto targets = supported_targets();
  ASSERT_FALSE(targets.empty());
  EXPECT_EQ(active_target(), targets.front());
}

TEST(SimdTarget, EachCanBeForcedAndReleased) {
  for (const std::string& target : supported_targets()) {
    EXPECT_TRUE(force_target(target));
    EXPECT_EQ(active_target(), target);
  }
  EXPECT_TRUE(force_target(""));
  EXPECT_EQ(active_target(), supported_targets().front());
}

TEST(SimdTarget, UnknownNameChangesNothing) {
  EXPECT_FALSE(force_target("MMX"));
  EXPECT_EQ(active_target(), supported_targets().front());
}

}  // namespace
}  // namespace krait::kernels
