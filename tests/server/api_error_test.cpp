#include "krait/server/api_error.h"

#include <gtest/gtest.h>

namespace krait::server {
namespace {

TEST(ApiErrors, AMistakeOfOursIsA500ThatSaysNothingOfTheInside) {
  const ApiError told = error_of(Error{ErrorCode::kInternal, "[engine] left == right: 3 versus 4"});
  EXPECT_EQ(told.status, 500);
  EXPECT_EQ(told.type, "server_error");
  EXPECT_EQ(told.code, "internal");
  EXPECT_EQ(told.message, "the server failed at this request; its log says why");
  EXPECT_EQ(told.log, "[engine] left == right: 3 versus 4");
  EXPECT_EQ(error_body(told).find("versus"), std::string::npos);
}

TEST(ApiErrors, WhatTheClientCanChangeIsA400WithTheMessage) {
  for (const ErrorCode code : {ErrorCode::kCorrupt, ErrorCode::kUnsupported, ErrorCode::kInvalidArgument}) {
    const ApiError told = error_of(Error{code, "[state] odd"});
    EXPECT_EQ(told.status, 400);
    EXPECT_EQ(told.message, "[state] odd");
    EXPECT_TRUE(told.log.empty());
  }
  EXPECT_EQ(error_of(Error{ErrorCode::kNotFound, "a"}).status, 404);
  EXPECT_EQ(error_of(Error{ErrorCode::kResourceExhausted, "a"}).status, 503);
  EXPECT_EQ(error_of(Error{ErrorCode::kInputOutput, "a"}).status, 500);
}

}  // namespace
}  // namespace krait::server
