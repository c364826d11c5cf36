#include "krait/server/api_error.h"

#include <nlohmann/json.hpp>

namespace krait::server {

std::string error_body(const ApiError& error) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(text);
  };
  const nlohmann::ordered_json body = {{"error",
                                        {{"message", error.message},
                                         {"type", error.type},
                                         {"param", or_null(error.param)},
                                         {"code", or_null(error.code)}}}};
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ApiError error_of_status(int status, std::string message) {
  ApiError error{.status = status, .message = std::move(message)};
  switch (status) {
    case 401: error.type = "authentication_error"; break;
    case 403: error.type = "permission_error"; break;
    case 404: error.type = "not_found_error"; break;
    case 413: error.code = "body_too_large"; break;
    case 429: error.type = "rate_limit_error"; break;
    default:
      if (status >= 500) error.type = "server_error";
  }
  return error;
}

ApiError error_of(const Error& error) {
  ApiError out;
  switch (error.code) {
    case ErrorCode::kNotFound: out = error_of_status(404, error.message); break;
    case ErrorCode::kCorrupt:
    case ErrorCode::kUnsupported:
    case ErrorCode::kInvalidArgument: out = error_of_status(400, error.message); break;
    case ErrorCode::kResourceExhausted: out = error_of_status(503, error.message); break;
    case ErrorCode::kCancelled: out = error_of_status(503, error.message); break;
    case ErrorCode::kInputOutput: out = error_of_status(500, error.message); break;
    case ErrorCode::kInternal:
      // What went wrong inside is for those who run the server.
      out = error_of_status(500, "the server failed at this request; its log says why");
      out.log = error.message;
      break;
  }
  out.code = to_string(error.code);
  return out;
}

}  // namespace krait::server
