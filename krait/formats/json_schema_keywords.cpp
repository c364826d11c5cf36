#include "krait/formats/json_schema_keywords.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

namespace krait::formats {
namespace {

constexpr std::int32_t kMaximumCount = 60000;

// Say nothing about which texts are valid.
const std::set<std::string, std::less<>> kAnnotations = {
    "title",  "description",   "default",         "examples",         "example",   "$schema", "$id",
    "id",     "$comment",      "deprecated",      "readOnly",         "writeOnly", "$defs",   "definitions",
    "strict", "discriminator", "contentEncoding", "contentMediaType", "$anchor"};
const std::set<std::string, std::less<>> kAssertions = {"type",
                                                        "enum",
                                                        "const",
                                                        "properties",
                                                        "required",
                                                        "additionalProperties",
                                                        "items",
                                                        "prefixItems",
                                                        "minItems",
                                                        "maxItems",
                                                        "uniqueItems",
                                                        "anyOf",
                                                        "oneOf",
                                                        "allOf",
                                                        "minLength",
                                                        "maxLength",
                                                        "pattern",
                                                        "format",
                                                        "minimum",
                                                        "maximum",
                                                        "exclusiveMinimum",
                                                        "exclusiveMaximum",
                                                        "multipleOf",
                                                        "nullable",
                                                        "$ref",
                                                        "propertyNames",
                                                        "minProperties",
                                                        "maxProperties"};
// Which type a keyword speaks about: a schema without "type" takes it from these.
const std::map<std::string, std::string, std::less<>> kTypeOfKeyword = {{"properties", "object"},
                                                                        {"required", "object"},
                                                                        {"additionalProperties", "object"},
                                                                        {"propertyNames", "object"},
                                                                        {"minProperties", "object"},
                                                                        {"maxProperties", "object"},
                                                                        {"items", "array"},
                                                                        {"prefixItems", "array"},
                                                                        {"minItems", "array"},
                                                                        {"maxItems", "array"},
                                                                        {"uniqueItems", "array"},
                                                                        {"minLength", "string"},
                                                                        {"maxLength", "string"},
                                                                        {"pattern", "string"},
                                                                        {"format", "string"},
                                                                        {"minimum", "number"},
                                                                        {"maximum", "number"},
                                                                        {"exclusiveMinimum", "number"},
                                                                        {"exclusiveMaximum", "number"},
                                                                        {"multipleOf", "number"}};
constexpr std::array<const char*, 7> kTypes = {"object", "array", "string", "number", "integer", "boolean", "null"};

}  // namespace

bool is_schema_assertion(std::string_view keyword) {
  return !kAnnotations.contains(keyword) && !keyword.starts_with("x-");
}

bool is_known_assertion(std::string_view keyword) { return kAssertions.contains(keyword); }

bool has_schema_assertions(const SchemaJson& schema) {
  return std::ranges::any_of(schema.items(), [](const auto& entry) { return is_schema_assertion(entry.key()); });
}

SchemaJson without_keyword(SchemaJson schema, const char* keyword) {
  schema.erase(keyword);
  return schema;
}

bool is_of_json_type(const SchemaJson& value, std::string_view type) {
  if (type == "integer") {
    return value.is_number_integer() ||
           (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()));
  }
  return type == (value.is_object()    ? "object"
                  : value.is_array()   ? "array"
                  : value.is_string()  ? "string"
                  : value.is_number()  ? "number"
                  : value.is_boolean() ? "boolean"
                                       : "null");
}

std::string shown(const SchemaJson& value) { return value.dump(-1, ' ', false, SchemaJson::error_handler_t::replace); }

Result<std::vector<std::string>> types_of_schema(const SchemaJson& schema, const std::string& path) {
  std::vector<std::string> types;
  const auto add = [&](const std::string& type) {
    if (std::ranges::find(types, type) == types.end()) types.push_back(type);
  };
  if (schema.contains("type")) {
    const SchemaJson& given = schema["type"];
    for (const SchemaJson& type : given.is_array() ? given : SchemaJson::array({given})) {
      if (!type.is_string() || std::ranges::find(kTypes, type.get<std::string>()) == kTypes.end()) {
        return wrong_schema(path, "has the type {:.100}, which is none of JSON's", shown(type));
      }
      add(type.get<std::string>());
    }
    if (types.empty()) return wrong_schema(path, "has an empty list of types");
    return types;
  }
  for (const auto& [keyword, argument] : schema.items()) {
    if (const auto found = kTypeOfKeyword.find(keyword); found != kTypeOfKeyword.end()) add(found->second);
  }
  return types;
}

Result<const SchemaJson*> schema_list(const SchemaJson& schema, const char* keyword, const std::string& path) {
  const SchemaJson& parts = schema[keyword];
  if (!parts.is_array() || parts.empty()) return wrong_schema(path, "has a \"{}\" that is no list, or empty", keyword);
  return &parts;
}

Result<std::int32_t> schema_count(const SchemaJson& schema, const char* keyword, std::int32_t fallback,
                                  const std::string& path) {
  if (!schema.contains(keyword)) return fallback;
  const SchemaJson& number = schema[keyword];
  if (!is_of_json_type(number, "integer") || number.get<double>() < 0) {
    return wrong_schema(path, "has the {} {:.100}, which counts nothing", keyword, shown(number));
  }
  if (number.get<double>() > kMaximumCount) {
    return refused_schema(path, "has the {} {:.100}; the limit is {}", keyword, shown(number), kMaximumCount);
  }
  return static_cast<std::int32_t>(number.get<double>());
}

}  // namespace krait::formats
