#include "krait/load/request_trace.h"

#include <gtest/gtest.h>

namespace krait::load {
namespace {

TEST(Trace, HasTimesFromTheFirstRequest) {
  const auto trace = read_trace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-11-16 23:59:58.5000000,374,44\r\n"
      "2023-11-17 00:00:01.2500000,396,109\n"
      "2023-11-16 23:59:59.0000000,10,0\n",
      "t");
  ASSERT_TRUE(trace) << trace.error().message;
  ASSERT_EQ(trace->size(), 3);
  EXPECT_EQ((*trace)[0].at, 0);
  EXPECT_EQ((*trace)[0].prompt_tokens, 374);
  EXPECT_EQ((*trace)[0].reply_tokens, 44);
  // Seconds since 1970 in doubles: half a microsecond.
  EXPECT_NEAR((*trace)[1].at, 0.5, 1e-6);
  EXPECT_NEAR((*trace)[2].at, 2.75, 1e-6);
}

TEST(Trace, ColumnsMayStandInAnyOrderAndTimesBeSeconds) {
  const auto trace = read_trace("GeneratedTokens,x,TIMESTAMP,ContextTokens\n7,?,1.5,9\n", "t");
  ASSERT_TRUE(trace);
  EXPECT_EQ(trace->front().reply_tokens, 7);
  EXPECT_EQ(trace->front().prompt_tokens, 9);
}

TEST(Trace, SaysWhichLineIsWrong) {
  const std::string head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  EXPECT_FALSE(read_trace("", "t"));
  EXPECT_FALSE(read_trace(head, "t"));
  EXPECT_FALSE(read_trace("a,b,c\n1,2,3\n", "t"));
  for (const char* line : {"1,2", "x,2,3", "1,-2,3", "1,2,3.5", "2023-13-16 18:15:46.6,1,1", "1,99999999999,1"}) {
    const auto trace = read_trace(head + "1,2,3\n" + line + "\n", "t.csv");
    ASSERT_FALSE(trace) << line;
    EXPECT_NE(trace.error().message.find("line 3"), std::string::npos) << trace.error().message;
    EXPECT_NE(trace.error().message.find("t.csv"), std::string::npos);
  }
}

}  // namespace
}  // namespace krait::load
