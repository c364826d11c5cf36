// Reads the members of a JSON object that a client sent, by name, type and range. The first member that is wrong is
// remembered with its name; what was read after that does not matter, so a caller looks once, at the end. An absent
// member and null are the same.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krait/server/api_error.h"

namespace krait::server {

class JsonReader {
 public:
  // Deeper nesting than kDepth, text after the object and broken UTF-8 are errors.
  static ApiResult<JsonReader> parse(std::string_view text);
  static constexpr int kDepth = 64;

  bool has(std::string_view name) const;
  std::optional<std::string> text(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<double> number(std::string_view name, double least, double most);
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t least, std::int64_t most);
  std::optional<JsonReader> object(std::string_view name);
  std::vector<JsonReader> objects(std::string_view name);  // of an array of objects
  // A string, or an array of strings.
  std::vector<std::string> texts(std::string_view name);
  std::optional<std::vector<std::int64_t>> integers(std::string_view name);  // of an array of integers
  std::vector<std::pair<std::string, double>> numbers_by_name(std::string_view name, double least, double most);

  enum class Kind { absent, boolean, number, text, array, object };
  Kind kind(std::string_view name) const;
  Kind first_kind(std::string_view name) const;           // of the first element of an array
  std::vector<JsonReader> arrays(std::string_view name);  // the elements of an array, each as its member "items"
  std::string dump(std::string_view name) const;          // the member as JSON

  // The caller's own complaint about a member.
  void complain(std::string_view name, std::string message, std::string code = {});
  const std::optional<ApiError>& error() const;

 private:
  struct Document;
  JsonReader(std::shared_ptr<Document> document, const void* value, std::string path)
      : document_(std::move(document)), value_(value), path_(std::move(path)) {}
  std::string path_of(std::string_view name) const;

  std::shared_ptr<Document> document_;
  const void* value_;  // a nlohmann::ordered_json within the document
  std::string path_;   // "messages[3]"
};

}  // namespace krait::server
