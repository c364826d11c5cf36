#include "krait/server/http_message.h"

#include <gtest/gtest.h>

namespace krait::server {
namespace {

TEST(HttpMessage, PercentIsDecodedOrRefused) {
  EXPECT_EQ(decode_percent("/a%20b%2F"), "/a b/");
  EXPECT_EQ(decode_percent(""), "");
  for (const char* text : {"%", "%2", "%zz", "a%", "%00"}) EXPECT_FALSE(decode_percent(text)) << text;
}

TEST(HttpMessage, QueriesAreFoundByTheirWholeName) {
  EXPECT_EQ(query_value("a=1&ab=2%20&c", "ab"), "2 ");
  EXPECT_EQ(query_value("a=1&ab=2&c", "c"), "");
  EXPECT_FALSE(query_value("a=1", "b"));
  EXPECT_FALSE(query_value("", "b"));
}

TEST(HttpMessage, HeadersAreFoundByLowerCase) {
  HttpRequest request;
  request.headers = {{"x-a", "1"}};
  EXPECT_EQ(request.header("x-a"), "1");
  EXPECT_EQ(request.header("x-b"), "");
}

}  // namespace
}  // namespace krait::server
