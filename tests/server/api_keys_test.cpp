#include "krait/server/api_keys.h"

#include <gtest/gtest.h>

namespace krait::server {
namespace {

TEST(ApiKeys, WithoutKeysEverybodyIsOneCaller) {
  const ApiKeys keys;
  EXPECT_FALSE(keys.required());
  EXPECT_EQ(keys.name_of("", ""), "");
}

TEST(ApiKeys, AreReadFromLinesAndFoundInBothHeaders) {
  ApiKeys keys({.requests = 9});
  ASSERT_TRUE(keys.add_lines(
      "# people\nalice sk-alice-1 requests=2 states=3 state_bytes=100 priority=5\n\n bob\tsk-bob-12 # no limits\n",
      "f"));
  EXPECT_EQ(keys.name_of("Bearer sk-alice-1", ""), "alice");
  EXPECT_EQ(keys.name_of("bearer sk-bob-12", ""), "bob");
  EXPECT_EQ(keys.name_of("", "sk-bob-12"), "bob");
  EXPECT_FALSE(keys.name_of("", ""));
  EXPECT_FALSE(keys.name_of("Bearer sk-alice-", ""));
  EXPECT_FALSE(keys.name_of("Bearer sk-alice-11", ""));
  EXPECT_EQ(keys.limits_of("alice").requests, 2);
  EXPECT_EQ(keys.limits_of("alice").states, 3);
  EXPECT_EQ(keys.limits_of("alice").state_bytes, 100u);
  EXPECT_EQ(keys.limits_of("alice").priority, 5);
  EXPECT_EQ(keys.limits_of("bob").requests, 9);
}

TEST(ApiKeys, OnlyThoseThatAFileNamesMayChangeTheServer) {
  ApiKeys keys;
  EXPECT_TRUE(keys.limits_of("").admin);  // without keys there is nobody else
  ASSERT_TRUE(keys.add("default", "sk-default", keys.defaults()));
  ASSERT_TRUE(keys.add_lines("alice sk-alice-1 admin=1\nbob sk-bob-12\ncarol sk-carol-1 admin=0\n", "f"));
  EXPECT_TRUE(keys.limits_of("default").admin);
  EXPECT_TRUE(keys.limits_of("alice").admin);
  EXPECT_FALSE(keys.limits_of("bob").admin);
  EXPECT_FALSE(keys.limits_of("carol").admin);
  EXPECT_FALSE(keys.add_lines("dave sk-dave-12 admin=yes\n", "f"));
}

TEST(ApiKeys, ALineThatIsWrongIsNamed) {
  for (const char* text : {"alice", "alice short", "alice sk-alice-1 requests=0", "alice sk-alice-1 requests=x",
                           "alice sk-alice-1 speed=3", "a sk-alice-1\na sk-alice-2", "a sk-alice-1\nb sk-alice-1"}) {
    ApiKeys keys;
    const auto added = keys.add_lines(text, "keys.txt");
    ASSERT_FALSE(added) << text;
    EXPECT_EQ(added.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(added.error().message.find("line"), std::string::npos) << added.error().message;
  }
}

TEST(ApiKeys, RequestsAtOnceAreCounted) {
  ApiKeys keys;
  ASSERT_TRUE(keys.add_lines("alice sk-alice-1 requests=2\nbob sk-bob-12 requests=1\n", "f"));
  EXPECT_TRUE(keys.begin("alice"));
  EXPECT_TRUE(keys.begin("alice"));
  EXPECT_FALSE(keys.begin("alice"));
  EXPECT_TRUE(keys.begin("bob"));
  keys.end("alice");
  EXPECT_TRUE(keys.begin("alice"));
}

}  // namespace
}  // namespace krait::server
