// What the keywords of a schema are and say, as far as one schema tells: no grammar, no references.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krait/core/error.h"

namespace krait::formats {

using SchemaJson = nlohmann::ordered_json;

inline constexpr int kMaximumSchemaDepth = 64;

// Errors name the place as a JSON pointer. What is no schema, and what a grammar cannot keep:
template <class... Args>
std::unexpected<Error> wrong_schema(const std::string& path, fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorCode::kInvalidArgument, "[json schema] {:.200} {}", path,
              fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
std::unexpected<Error> refused_schema(const std::string& path, fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorCode::kUnsupported, "[json schema] {:.200} {}", path,
              fmt::format(format, std::forward<Args>(args)...));
}

// Whether a keyword says which texts are valid, and whether it is one of those that krait takes.
bool is_schema_assertion(std::string_view keyword);
bool is_known_assertion(std::string_view keyword);
bool has_schema_assertions(const SchemaJson& schema);

SchemaJson without_keyword(SchemaJson schema, const char* keyword);
bool is_of_json_type(const SchemaJson& value, std::string_view type);
std::string shown(const SchemaJson& value);  // in messages

// The types that a schema names, or that its keywords speak about; empty: any.
Result<std::vector<std::string>> types_of_schema(const SchemaJson& schema, const std::string& path);
// A keyword whose value is a list of schemas, at least one.
Result<const SchemaJson*> schema_list(const SchemaJson& schema, const char* keyword, const std::string& path);
// A keyword that counts something.
Result<std::int32_t> schema_count(const SchemaJson& schema, const char* keyword, std::int32_t fallback,
                                  const std::string& path);

}  // namespace krait::formats
