#include "krait/core/tensor_view.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace krait {
namespace {

TEST(ElementCount, IsTheProductOfTheDimensions) {
  EXPECT_EQ(element_count(Shape{}), 1);
  EXPECT_EQ(element_count(Shape{7}), 7);
  EXPECT_EQ(element_count(Shape{24, 768, 3}), 24 * 768 * 3);
  EXPECT_EQ(element_count(Shape{5, 0, 9}), 0);
}

TEST(ElementCount, RefusesNegativeDimensions) {
  EXPECT_FALSE(element_count(Shape{-1}));
  EXPECT_FALSE(element_count(Shape{0, -1}));
  EXPECT_FALSE(element_count(Shape{-2, -2}));
}

TEST(ElementCount, SeesOverflowAndReachesTheLimit) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(element_count(Shape{kMost, 1}), kMost);
  // 2^63 - 1 = 7 × 1317624576693539401: the largest product of several dimensions there is.
  EXPECT_EQ(element_count(Shape{7, 1317624576693539401}), kMost);
  EXPECT_FALSE(element_count(Shape{7, 1317624576693539402}));
  EXPECT_FALSE(element_count(Shape{std::int64_t{1} << 32, std::int64_t{1} << 31}));
}

// A zero does not hide an absurd shape, wherever it stands: readers multiply sub-shapes too.
TEST(ElementCount, OverflowDoesNotDependOnWhereAZeroStands) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 40;
  EXPECT_FALSE(element_count(Shape{0, kLarge, kLarge}));
  EXPECT_FALSE(element_count(Shape{kLarge, 0, kLarge}));
  EXPECT_FALSE(element_count(Shape{kLarge, kLarge, 0}));
}

TEST(ShapeToString, ReadsLikeAList) {
  EXPECT_EQ(to_string(Shape{}), "[]");
  EXPECT_EQ(to_string(Shape{24, 768}), "[24, 768]");
}

}  // namespace
}  // namespace krait
