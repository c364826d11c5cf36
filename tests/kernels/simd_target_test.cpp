#include "krait/kernels/simd_target.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

#include "tests/support/simd_targets.h"

namespace krait::kernels {
namespace {

class SimdTarget : public ::testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(tests::use_default_target()); }
};

TEST_F(SimdTarget, BestIsActiveUntilForced) {
  const auto targets = supported_targets();
  ASSERT_FALSE(targets.empty());
  ASSERT_TRUE(force_target(""));
  EXPECT_EQ(active_target(), targets.front());
}

TEST_F(SimdTarget, EachCanBeForcedAndReleased) {
  for (const std::string& target : supported_targets()) {
    EXPECT_TRUE(force_target(target));
    EXPECT_EQ(active_target(), target);
  }
  EXPECT_TRUE(force_target(""));
  EXPECT_EQ(active_target(), supported_targets().front());
}

TEST_F(SimdTarget, CapitalsDoNotMatter) {
  for (const std::string& target : supported_targets()) {
    std::string lower = target;
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    ASSERT_NE(lower, target);
    EXPECT_TRUE(force_target(lower));
    EXPECT_EQ(active_target(), target);
  }
}

TEST_F(SimdTarget, UnknownNameChangesNothingAndTheErrorSaysWhatThereIs) {
  const std::string before = supported_targets().back();
  ASSERT_TRUE(force_target(before));
  for (const std::string_view name : {"MMX", "AVX", "SSE4 ", "Unknown", "AVX3_"}) {
    const auto done = force_target(name);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(done.error().message.find(name), std::string::npos) << done.error().message;
    for (const std::string& target : supported_targets()) {
      EXPECT_NE(done.error().message.find(target), std::string::npos) << done.error().message;
    }
    EXPECT_EQ(active_target(), before);
  }
}

TEST_F(SimdTarget, TheEnvironmentDecidesWhatTestsRunOn) {
  const std::string name = tests::target_of_environment();
  ASSERT_TRUE(tests::use_default_target());
  if (name.empty()) {
    EXPECT_EQ(tests::targets_under_test(), supported_targets());
    EXPECT_EQ(active_target(), supported_targets().front());
  } else {
    EXPECT_EQ(tests::targets_under_test(), std::vector<std::string>{active_target()});
  }
}

}  // namespace
}  // namespace krait::kernels
