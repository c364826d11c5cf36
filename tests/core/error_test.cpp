#include "krait/core/error.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <string_view>

namespace krait {
namespace {

Result<int> parse_digit(char letter, int* calls = nullptr) {
  if (calls != nullptr) ++*calls;
  if (letter < '0' || letter > '9') return fail(ErrorCode::kInvalidArgument, "[test] not a digit: '{}'", letter);
  return letter - '0';
}

Result<int> sum_of_digits(std::string_view letters, int* calls) {
  int sum = 0;
  for (const char letter : letters) {
    KRAIT_ASSIGN(const int digit, parse_digit(letter, calls));
    sum += digit;
  }
  return sum;
}

Result<void> refuse_odd(int value) {
  if (value % 2 != 0) return fail(ErrorCode::kCorrupt, "[test] odd: {}", value);
  return {};
}

Result<std::string> describe_even(int value) {
  KRAIT_TRY(refuse_odd(value));
  return "even";
}

Result<std::unique_ptr<int>> boxed(int value) { return std::make_unique<int>(value); }

Result<int> unboxed(int value) {
  std::unique_ptr<int> box;
  KRAIT_ASSIGN(box, boxed(value));
  return *box;
}

TEST(Error, FailKeepsCodeAndFormatsTheMessage) {
  const Result<int> result = parse_digit('x');
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(result.error().message, "[test] not a digit: 'x'");
}

TEST(Error, AssignTakesTheValueAndEvaluatesOnce) {
  int calls = 0;
  EXPECT_EQ(sum_of_digits("1234", &calls), 10);
  EXPECT_EQ(calls, 4);
}

TEST(Error, AssignReturnsTheFirstError) {
  int calls = 0;
  const Result<int> result = sum_of_digits("12y4z", &calls);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "[test] not a digit: 'y'");
  EXPECT_EQ(calls, 3);
}

TEST(Error, AssignMovesIntoAnExistingVariable) { EXPECT_EQ(unboxed(5), 5); }

TEST(Error, TryPassesErrorsToAnotherResultType) {
  EXPECT_EQ(describe_even(2), "even");
  const Result<std::string> result = describe_even(3);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(result.error().message, "[test] odd: 3");
}

TEST(Error, EveryCodeHasItsOwnWord) {
  std::set<std::string_view> words;
  for (const ErrorCode code :
       {ErrorCode::kNotFound, ErrorCode::kInputOutput, ErrorCode::kCorrupt, ErrorCode::kUnsupported,
        ErrorCode::kInvalidArgument, ErrorCode::kResourceExhausted, ErrorCode::kCancelled, ErrorCode::kInternal}) {
    words.insert(to_string(code));
  }
  EXPECT_EQ(words.size(), 8U);
  EXPECT_FALSE(words.contains("unknown"));
}

TEST(Error, UserErrorCarriesAHint) {
  const UserError error("no model 'x'", "try -m DIR");
  EXPECT_STREQ(error.what(), "no model 'x'");
  EXPECT_EQ(error.hint(), "try -m DIR");
}

}  // namespace
}  // namespace krait
