// Files that stand in the program itself: the page at / and the description of the routes. They are made into a source
// while building (cmake/embed_files.cmake).
#pragma once

#include <span>
#include <string_view>

#include "krait/server/http_message.h"

namespace krait::server {

struct EmbeddedFile {
  std::string_view path;  // from krait/server: "page/app.js"
  std::string_view content_type;
  std::string_view etag;  // in quotes, as in the header; of the content
  std::string_view text;
};

std::span<const EmbeddedFile> embedded_files();
const EmbeddedFile* find_embedded_file(std::string_view path);

// The file, or 304 where the client has it already. A browser asks each time, so that a newer program's page is seen at
// once.
HttpAnswer embedded_answer(const EmbeddedFile& file, const HttpRequest& request);

}  // namespace krait::server
