#include "krait/server/embedded_file.h"

#include <algorithm>

namespace krait::server {
namespace {

// If-None-Match is a list of tags, each perhaps weak, or "*" (RFC 9110, 13.1.2).
bool names_tag(std::string_view list, std::string_view etag) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view tag = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (tag.starts_with(' ')) tag.remove_prefix(1);
    while (tag.ends_with(' ')) tag.remove_suffix(1);
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    if (tag == etag || tag == "*") return true;
  }
  return false;
}

}  // namespace

const EmbeddedFile* find_embedded_file(std::string_view path) {
  const auto files = embedded_files();
  const auto found = std::ranges::find(files, path, &EmbeddedFile::path);
  return found == files.end() ? nullptr : &*found;
}

HttpAnswer embedded_answer(const EmbeddedFile& file, const HttpRequest& request) {
  HttpAnswer answer{
      .content_type = std::string(file.content_type),
      .headers = {
          {"etag", std::string(file.etag)}, {"cache-control", "no-cache"}, {"x-content-type-options", "nosniff"}}};
  if (names_tag(request.header("if-none-match"), file.etag)) {
    answer.status = 304;
    answer.content_type.clear();
  } else {
    answer.body = file.text;
  }
  return answer;
}

}  // namespace krait::server
