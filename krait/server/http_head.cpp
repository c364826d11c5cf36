#include "krait/server/http_head.h"

#include <fmt/format.h>

#include <algorithm>

namespace krait::server {
namespace {

constexpr std::size_t kLongestId = 128;

}  // namespace

bool fit_for_id(std::string_view text) {
  return !text.empty() && text.size() <= kLongestId && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.' || c == ':';
  });
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool set_target(std::string_view target, HttpRequest& request) {
  if (target.starts_with("http://") || target.starts_with("https://")) {
    const std::size_t slash = target.find('/', target.find("//") + 2);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  target = target.substr(0, target.find('#'));
  const std::size_t question = target.find('?');
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  auto path = decode_percent(target.substr(0, question));
  if (!path || (!path->starts_with('/') && *path != "*")) return false;
  request.path = *std::move(path);
  return true;
}

std::string head_text(const HttpAnswer& answer, const std::string& id, BodyLength length, bool keep_alive) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", answer.status, reason_phrase(answer.status));
  if (!answer.content_type.empty()) text += fmt::format("content-type: {}\r\n", answer.content_type);
  for (const HttpHeader& header : answer.headers) text += fmt::format("{}: {}\r\n", header.name, header.value);
  text += fmt::format("x-request-id: {}\r\n", id);
  if (length == BodyLength::chunked) {
    text += "transfer-encoding: chunked\r\n";
  } else if (length == BodyLength::known && answer.status != 204 && answer.status != 304) {
    text += fmt::format("content-length: {}\r\n", answer.body.size());
  }
  text += keep_alive ? "connection: keep-alive\r\n\r\n" : "connection: close\r\n\r\n";
  return text;
}

}  // namespace krait::server
