#include "krait/core/check.h"

#include <gtest/gtest.h>

#include <string>

namespace krait {
namespace {

int counted(int* calls) { return ++*calls; }

template <class Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Check, HoldsInSilenceAndDoesNotFormat) {
  int calls = 0;
  EXPECT_NO_THROW(KRAIT_CHECK(true, "detail {}", counted(&calls)));
  EXPECT_EQ(calls, 0);
}

TEST(Check, FailureNamesExpressionDetailAndPlace) {
  const std::string message = message_of([] { KRAIT_CHECK(1 + 1 == 3, "rows {}", 17); });
  EXPECT_NE(message.find("1 + 1 == 3"), std::string::npos) << message;
  EXPECT_NE(message.find("rows 17"), std::string::npos) << message;
  EXPECT_NE(message.find("check_test.cpp:"), std::string::npos) << message;
}

TEST(Check, EqualityShowsBothValues) {
  EXPECT_NO_THROW(KRAIT_CHECK_EQ(4, 2 + 2));
  const std::string message = message_of([] { KRAIT_CHECK_EQ(4 * 10, 41); });
  EXPECT_NE(message.find("40 versus 41"), std::string::npos) << message;
  EXPECT_NE(message.find("4 * 10 == 41"), std::string::npos) << message;
}

TEST(Check, EqualityEvaluatesEachSideOnce) {
  int left = 0;
  int right = 0;
  KRAIT_CHECK_EQ(counted(&left), counted(&right));
  EXPECT_EQ(left, 1);
  EXPECT_EQ(right, 1);
}

}  // namespace
}  // namespace krait
