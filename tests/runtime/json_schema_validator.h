// A plain validator of JSON values against the part of JSON schema that krait takes, written from the specification
// (draft 2020-12) and knowing nothing of grammars: the judge of what constraints let through.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

#include "krait/formats/tokenizer_utf8.h"

namespace krait::tests {

class JsonSchemaValidator {
 public:
  explicit JsonSchemaValidator(nlohmann::json root) : root_(std::move(root)) {}

  // Empty when valid, else what is wrong.
  std::string complaint(const nlohmann::json& value) const { return check(root_, value); }

 private:
  using Json = nlohmann::json;

  static bool is_type(const std::string& type, const Json& value) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (!value.is_number()) return false;
    return type == "number" || value.get<double>() == std::floor(value.get<double>());
  }

  static std::size_t characters(const std::string& text) {
    std::size_t count = 0;
    for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
    return count;
  }

  static std::wstring wide(const std::string& text) {
    std::wstring characters;
    for (std::size_t at = 0; at < text.size();) {
      const formats::Utf8Step step = formats::read_utf8(text, at);
      characters += static_cast<wchar_t>(step.code);
      at += step.length;
    }
    return characters;
  }

  std::string check(const Json& schema, const Json& value) const {
    if (schema.is_boolean()) return schema.get<bool>() ? "" : "the schema false";
    if (value.is_null() && schema.value("nullable", false)) return "";
    for (const auto& [keyword, argument] : schema.items()) {
      if (std::string wrong = check_keyword(schema, keyword, argument, value); !wrong.empty()) {
        return keyword + ": " + wrong;
      }
    }
    return "";
  }

  std::string check_keyword(const Json& schema, const std::string& keyword, const Json& argument,
                            const Json& value) const {
    const auto verdict = [&](bool valid) { return valid ? std::string() : value.dump() + " under " + argument.dump(); };
    if (keyword == "$ref") return check(root_.at(Json::json_pointer(argument.get<std::string>().substr(1))), value);
    if (keyword == "type") {
      bool found = false;
      for (const Json& type : argument.is_array() ? argument : Json::array({argument})) found |= is_type(type, value);
      return verdict(found);
    }
    if (keyword == "const") return verdict(value == argument);
    if (keyword == "enum") return verdict(std::find(argument.begin(), argument.end(), value) != argument.end());
    if (keyword == "anyOf" || keyword == "oneOf" || keyword == "allOf") {
      std::size_t valid = 0;
      for (const Json& part : argument) valid += check(part, value).empty() ? 1 : 0;
      return verdict(keyword == "allOf" ? valid == argument.size() : valid > 0);
    }
    if (value.is_number()) return check_number(keyword, argument, value.get<double>(), verdict);
    if (value.is_string()) {
      const auto text = value.get<std::string>();
      if (keyword == "minLength") return verdict(characters(text) >= argument);
      if (keyword == "maxLength") return verdict(characters(text) <= argument);
      if (keyword == "pattern") {
        return verdict(std::regex_search(wide(text), std::wregex(wide(argument.get<std::string>()))));
      }
    }
    if (value.is_array()) return check_array(schema, keyword, argument, value, verdict);
    if (value.is_object()) return check_object(schema, keyword, argument, value, verdict);
    return "";
  }

  template <class Verdict>
  static std::string check_number(const std::string& keyword, const Json& argument, double value, Verdict verdict) {
    if (keyword == "minimum") return verdict(value >= argument.get<double>());
    if (keyword == "maximum") return verdict(value <= argument.get<double>());
    if (keyword == "exclusiveMinimum") return verdict(value > argument.get<double>());
    if (keyword == "exclusiveMaximum") return verdict(value < argument.get<double>());
    return "";
  }

  template <class Verdict>
  std::string check_array(const Json& schema, const std::string& keyword, const Json& argument, const Json& value,
                          Verdict verdict) const {
    if (keyword == "minItems") return verdict(value.size() >= argument);
    if (keyword == "maxItems") return verdict(value.size() <= argument);
    const std::size_t named = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
    for (std::size_t i = 0; i < value.size(); ++i) {
      std::string wrong;
      if (keyword == "prefixItems" && i < named) wrong = check(argument[i], value[i]);
      if (keyword == "items" && i >= named) wrong = check(argument, value[i]);
      if (!wrong.empty()) return wrong;
    }
    return "";
  }

  template <class Verdict>
  std::string check_object(const Json& schema, const std::string& keyword, const Json& argument, const Json& value,
                           Verdict verdict) const {
    if (keyword == "required") {
      for (const Json& name : argument) {
        if (!value.contains(name.get<std::string>())) return verdict(false);
      }
    }
    if (keyword == "minProperties") return verdict(value.size() >= argument);
    if (keyword == "maxProperties") return verdict(value.size() <= argument);
    for (const auto& [name, inner] : value.items()) {
      const bool named = schema.contains("properties") && schema["properties"].contains(name);
      std::string wrong;
      if (keyword == "properties" && named) wrong = check(argument[name], inner);
      if (keyword == "additionalProperties" && !named) wrong = check(argument, inner);
      if (keyword == "propertyNames") wrong = check(argument, Json(name));
      if (!wrong.empty()) return wrong;
    }
    return "";
  }

  Json root_;
};

}  // namespace krait::tests
