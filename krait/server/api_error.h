// What a client is told when a request fails, in the shape that clients of OpenAI's API expect:
//   {"error": {"message": …, "type": …, "param": …, "code": …}}
#pragma once

#include <expected>
#include <string>

#include "krait/core/error.h"

namespace krait::server {

struct ApiError {
  int status = 400;
  std::string message = {};
  std::string type = "invalid_request_error";
  std::string param = {};          // the member of the request that is wrong; empty: null
  std::string code = {};           // for programs; empty: null
  double retry_after_seconds = 0;  // of 429 and 503
  std::string log = {};            // for the server's log; empty: the message
};

template <class T>
using ApiResult = std::expected<T, ApiError>;

std::string error_body(const ApiError& error);

// The error for a status that HTTP itself gives, such as 413.
ApiError error_of_status(int status, std::string message);
// What a failure in the house means for the client.
ApiError error_of(const Error& error);

}  // namespace krait::server
