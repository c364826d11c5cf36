// Expects that a Result failed with a code and that its sentence names what went wrong.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string_view>

#include "krait/core/error.h"

namespace krait::tests {

template <class T>
void expect_error(const Result<T>& result, ErrorCode code, std::initializer_list<std::string_view> parts) {
  ASSERT_FALSE(result.has_value()) << "expected an error that says: " << *parts.begin();
  EXPECT_EQ(to_string(result.error().code), to_string(code)) << result.error().message;
  for (const std::string_view part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos)
        << "\"" << part << "\" is not in: " << result.error().message;
  }
}

}  // namespace krait::tests

// The value of a Result, or the failure of this test with its message.
#define KRAIT_ASSERT_VALUE(declaration, expression) \
  KRAIT_ASSERT_VALUE_WITH(KRAIT_CONCAT(krait_value_, __LINE__), declaration, expression)
#define KRAIT_ASSERT_VALUE_WITH(name, declaration, expression) \
  auto name = (expression);                                    \
  ASSERT_TRUE(name.has_value()) << name.error().message;       \
  declaration = *std::move(name)
