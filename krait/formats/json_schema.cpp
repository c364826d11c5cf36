// A schema is read keyword by keyword; what combines schemas (allOf, and what stands beside anyOf, oneOf and $ref) is
// merged into one schema first. Schemas that others refer to become rules, all else stands in place.
#include "krait/formats/json_schema.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "krait/formats/grammar_regex.h"
#include "krait/formats/json_schema_scalars.h"

namespace krait::formats {
namespace {

using Expression = Grammar::Expression;
using Json = nlohmann::ordered_json;

constexpr int kMaximumDepth = 64;
constexpr int kMaximumVisits = 10000;  // of schemas, each as often as it stands somewhere
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

bool is_assertion(std::string_view keyword) { return !kAnnotations.contains(keyword) && !keyword.starts_with("x-"); }

bool has_assertions(const Json& schema) {
  return std::ranges::any_of(schema.items(), [](const auto& entry) { return is_assertion(entry.key()); });
}

Json without(Json schema, const char* keyword) {
  schema.erase(keyword);
  return schema;
}

bool is_of_type(const Json& value, std::string_view type) {
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

// Nesting is bounded before the parser builds anything of it.
bool is_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      if (text[i] == '\\') {
        ++i;
      } else if (text[i] == '"') {
        in_string = false;
      }
    } else if (text[i] == '"') {
      in_string = true;
    } else if (text[i] == '{' || text[i] == '[') {
      if (++depth > 4 * kMaximumDepth) return true;
    } else if (text[i] == '}' || text[i] == ']') {
      --depth;
    }
  }
  return false;
}

class SchemaReader {
 public:
  SchemaReader(const Json& root, const JsonSchemaOptions& options) : root_(root), options_(options) {}

  Result<Grammar> read() {
    const std::int32_t start = grammar_.add_rule("#", false);
    KRAIT_ASSIGN(const Expression body, value(root_, "#", 0));
    grammar_.set_body(start, body);
    while (!waiting_.empty()) {
      const std::string pointer = std::move(waiting_.back());
      waiting_.pop_back();
      KRAIT_ASSIGN(const Json* target, resolve(pointer, pointer));
      KRAIT_ASSIGN(const Expression referred, value(*target, pointer, 0));
      grammar_.set_body(references_.at(pointer), referred);
    }
    return std::move(grammar_);
  }

  Grammar any_object() {
    const std::int32_t start = grammar_.add_rule("object", false);
    grammar_.set_body(start, map(free_string(), any_value(), 0, Grammar::kUnlimited));
    return std::move(grammar_);
  }

 private:
  template <class... Args>
  std::unexpected<Error> wrong(const std::string& path, fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kInvalidArgument, "[json schema] {:.200} {}", path,
                fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  std::unexpected<Error> refused(const std::string& path, fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kUnsupported, "[json schema] {:.200} {}", path,
                fmt::format(format, std::forward<Args>(args)...));
  }

  // ---- pieces of JSON

  Expression space() {
    if (options_.space == JsonSpace::kNone) return grammar_.empty();
    return grammar_.optional(grammar_.choice({grammar_.bytes(' ', ' '), grammar_.bytes('\n', '\n')}));
  }
  Expression comma() { return grammar_.sequence({grammar_.literal(","), space()}); }
  Expression quoted(Expression inner) {
    const Expression quote = grammar_.bytes('"', '"');
    return grammar_.sequence({quote, inner, quote});
  }
  Expression free_string() { return quoted(grammar_.repeat(add_json_character(grammar_), 0, Grammar::kUnlimited)); }
  Expression member(Expression key, Expression value) {
    return grammar_.sequence({key, grammar_.literal(":"), space(), value});
  }
  Expression enclosed(const char* open, Expression inner, const char* close) {
    return grammar_.sequence({grammar_.literal(open), space(), inner, space(), grammar_.literal(close)});
  }
  // least … most of `part`, with commas.
  Expression list(Expression part, std::int32_t least, std::int32_t most) {
    if (most == 0) return grammar_.empty();
    const Expression more = grammar_.repeat(grammar_.sequence({comma(), part}), std::max(least - 1, 0),
                                            most == Grammar::kUnlimited ? most : most - 1);
    const Expression some = grammar_.sequence({part, more});
    return least == 0 ? grammar_.optional(some) : some;
  }
  Expression map(Expression key, Expression value, std::int32_t least, std::int32_t most) {
    return enclosed("{", list(member(key, value), least, most), "}");
  }

  // Any JSON value, as one rule that calls itself.
  Expression any_value() {
    if (any_value_ < 0) {
      any_value_ = grammar_.add_rule("any value", true);
      const Expression self = grammar_.call(any_value_);
      grammar_.set_body(
          any_value_, grammar_.choice({map(free_string(), self, 0, Grammar::kUnlimited),
                                       enclosed("[", list(self, 0, Grammar::kUnlimited), "]"), free_string(),
                                       add_json_number(grammar_, false, std::nullopt, std::nullopt),
                                       grammar_.literal("true"), grammar_.literal("false"), grammar_.literal("null")}));
    }
    return grammar_.call(any_value_);
  }

  // A value that is given, in its one spelling.
  Expression given(const Json& value) {
    std::vector<Expression> parts;
    if (value.is_string()) return quoted(grammar_.text(value.get<std::string>(), Spelling::kJsonString));
    if (value.is_object()) {
      for (const auto& [key, inner] : value.items()) {
        if (!parts.empty()) parts.push_back(comma());
        parts.push_back(member(quoted(grammar_.text(key, Spelling::kJsonString)), given(inner)));
      }
      return enclosed("{", grammar_.sequence(std::move(parts)), "}");
    }
    if (value.is_array()) {
      for (const Json& inner : value) {
        if (!parts.empty()) parts.push_back(comma());
        parts.push_back(given(inner));
      }
      return enclosed("[", grammar_.sequence(std::move(parts)), "]");
    }
    return grammar_.literal(value.dump());
  }

  // ---- schemas

  Result<Expression> value(const Json& schema, const std::string& path, int depth) {
    if (depth > kMaximumDepth) return wrong(path, "is nested deeper than {}", kMaximumDepth);
    if (++visits_ > kMaximumVisits) return wrong("#", "unfolds into more than {} schemas", kMaximumVisits);
    if (schema.is_boolean()) return schema.get<bool>() ? any_value() : grammar_.nothing();
    if (!schema.is_object()) return wrong(path, "is neither an object nor true or false");
    for (const auto& [keyword, argument] : schema.items()) {
      if (is_assertion(keyword) && !kAssertions.contains(keyword)) {
        return refused(path, "has the keyword \"{:.100}\", which is not supported", keyword);
      }
    }
    if (schema.contains("$ref")) return reference(schema, path, depth);
    if (schema.contains("allOf")) {
      KRAIT_ASSIGN(const Json* parts, array_of(schema, "allOf", path));
      Json merged = without(schema, "allOf");
      for (const Json& part : *parts) {
        KRAIT_ASSIGN(merged, merge(merged, part, path, depth));
      }
      return value(merged, path, depth + 1);
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (schema.contains(keyword)) return alternatives(schema, keyword, path, depth);
    }
    if (schema.contains("nullable")) {
      if (!schema["nullable"].is_boolean()) return wrong(path, "has a \"nullable\" that is not true or false");
      KRAIT_ASSIGN(const Expression rest, value(without(schema, "nullable"), path, depth + 1));
      return schema["nullable"].get<bool>() ? grammar_.choice({rest, grammar_.literal("null")}) : rest;
    }
    if (schema.contains("enum") || schema.contains("const")) return enumeration(schema, path);
    KRAIT_ASSIGN(const std::vector<std::string> types, types_of(schema, path));
    if (types.empty()) return any_value();
    std::vector<Expression> parts;
    for (const std::string& type : types) {
      KRAIT_ASSIGN(const Expression part, typed(schema, type, path, depth));
      parts.push_back(part);
    }
    return grammar_.choice(std::move(parts));
  }

  Result<const Json*> array_of(const Json& schema, const char* keyword, const std::string& path) const {
    const Json& parts = schema[keyword];
    if (!parts.is_array() || parts.empty()) return wrong(path, "has a \"{}\" that is no list, or empty", keyword);
    return &parts;
  }

  Result<Expression> alternatives(const Json& schema, const char* keyword, const std::string& path, int depth) {
    KRAIT_ASSIGN(const Json* parts, array_of(schema, keyword, path));
    const Json beside = without(schema, keyword);
    const bool merges = has_assertions(beside);
    std::vector<Expression> found;
    for (std::size_t i = 0; i < parts->size(); ++i) {
      const std::string place = fmt::format("{}/{}/{}", path, keyword, i);
      Json whole;
      if (merges) {
        KRAIT_ASSIGN(whole, merge(beside, (*parts)[i], place, depth));
      }
      KRAIT_ASSIGN(const Expression part, value(merges ? whole : (*parts)[i], place, depth + 1));
      found.push_back(part);
    }
    return grammar_.choice(std::move(found));
  }

  Result<Expression> reference(const Json& schema, const std::string& path, int depth) {
    if (!schema["$ref"].is_string()) return wrong(path, "has a \"$ref\" that is no text");
    const std::string pointer = schema["$ref"].get<std::string>();
    KRAIT_ASSIGN(const Json* target, resolve(pointer, path));
    const Json beside = without(schema, "$ref");
    if (has_assertions(beside)) {
      KRAIT_ASSIGN(const Json merged, merge(beside, *target, path, depth));
      return value(merged, path, depth + 1);
    }
    const auto [found, is_new] = references_.try_emplace(pointer, 0);
    if (is_new) {
      found->second = grammar_.add_rule(pointer, true);
      waiting_.push_back(pointer);
    }
    return grammar_.call(found->second);
  }

  Result<const Json*> resolve(const std::string& reference, const std::string& path) const {
    if (!reference.starts_with('#')) return refused(path, "refers to \"{:.200}\" outside this schema", reference);
    std::string pointer;
    for (std::size_t i = 1; i < reference.size(); ++i) {
      unsigned code = 0;
      if (reference[i] == '%' && i + 2 < reference.size() &&
          std::from_chars(reference.data() + i + 1, reference.data() + i + 3, code, 16).ptr ==
              reference.data() + i + 3) {
        pointer += static_cast<char>(code);
        i += 2;
      } else {
        pointer += reference[i];
      }
    }
    if (!pointer.empty() && pointer.front() != '/') return refused(path, "refers to an anchor, \"{:.200}\"", reference);
    try {
      return &root_.at(Json::json_pointer(pointer));
    } catch (const Json::exception&) {
      return wrong(path, "refers to \"{:.200}\", which is not there", reference);
    }
  }

  // A schema that takes what both take, or what comes near it from below.
  Result<Json> merge(Json a, Json b, const std::string& path, int depth) {
    if (depth > kMaximumDepth) return wrong(path, "is nested deeper than {}", kMaximumDepth);
    if (++visits_ > kMaximumVisits) return wrong("#", "unfolds into more than {} schemas", kMaximumVisits);
    if (a.is_boolean()) std::swap(a, b);
    if (b.is_boolean()) return b.get<bool>() ? a : Json(false);
    if (!a.is_object() || !b.is_object()) return wrong(path, "combines what is no schema");
    for (Json* side : {&a, &b}) {
      if (!side->contains("$ref")) continue;
      if (!(*side)["$ref"].is_string()) return wrong(path, "has a \"$ref\" that is no text");
      KRAIT_ASSIGN(const Json* target, resolve((*side)["$ref"].get<std::string>(), path));
      KRAIT_ASSIGN(*side, merge(without(*side, "$ref"), *target, path, depth + 1));
      if (side->is_boolean()) return merge(std::move(a), std::move(b), path, depth + 1);
    }
    for (Json* side : {&a, &b}) spell_out_null(*side);
    KRAIT_TRY(check_closed(a, b, path));
    for (const auto& [keyword, argument] : b.items()) {
      if (!is_assertion(keyword)) continue;
      if (!a.contains(keyword)) {
        a[keyword] = argument;
        continue;
      }
      Json& mine = a[keyword];
      const auto is_text_list = [](const Json& list) {
        return list.is_array() && std::ranges::all_of(list, [](const Json& entry) { return entry.is_string(); });
      };
      if (keyword == "properties" && mine.is_object() && argument.is_object()) {
        for (const auto& [name, property] : argument.items()) {
          if (mine.contains(name)) {
            KRAIT_ASSIGN(mine[name], merge(mine[name], property, path + "/properties/" + name, depth + 1));
          } else {
            mine[name] = property;
          }
        }
      } else if (keyword == "required" && is_text_list(mine) && is_text_list(argument)) {
        for (const Json& name : argument) {
          if (std::ranges::find(mine, name) == mine.end()) mine.push_back(name);
        }
      } else if (keyword == "allOf" && mine.is_array() && argument.is_array()) {
        for (const Json& part : argument) mine.push_back(part);
      } else if (keyword == "type") {
        const Json both = common_types(mine, argument);
        if (both.empty()) return Json(false);
        mine = both;
      } else if (keyword == "enum" && mine.is_array() && argument.is_array()) {
        Json both = Json::array();
        for (const Json& entry : mine) {
          if (std::ranges::find(argument, entry) != argument.end()) both.push_back(entry);
        }
        if (both.empty()) return Json(false);
        mine = both;
      } else if ((keyword == "items" || keyword == "additionalProperties") && mine != argument) {
        KRAIT_ASSIGN(mine, merge(mine, argument, path + "/" + keyword, depth + 1));
      } else if (keyword.starts_with("min") || keyword == "exclusiveMinimum" || keyword.starts_with("max") ||
                 keyword == "exclusiveMaximum") {
        if (!mine.is_number() || !argument.is_number()) return wrong(path, "has a \"{}\" that is no number", keyword);
        const bool is_low = keyword.starts_with("min") || keyword == "exclusiveMinimum";
        if (is_low ? mine < argument : argument < mine) mine = argument;
      } else if (keyword == "const") {
        if (mine != argument) return Json(false);
      } else if (mine != argument) {
        return refused(path, "combines two different \"{}\": that is not supported", keyword);
      }
    }
    return a;
  }

  // Properties or items that one side of a merge names and the other shuts out, or restricts without naming them.
  Result<void> check_closed(const Json& a, const Json& b, const std::string& path) const {
    for (const auto& [closed, open] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      if (!closed->contains("additionalProperties") || (*closed)["additionalProperties"] == Json(true)) continue;
      if (!open->contains("properties") || !(*open)["properties"].is_object()) continue;
      for (const auto& [name, property] : (*open)["properties"].items()) {
        if (closed->contains("properties") && (*closed)["properties"].contains(name)) continue;
        return refused(path, "combines \"additionalProperties\" with the property \"{:.100}\" of another schema", name);
      }
    }
    for (const auto& [tuple, list] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      if (tuple->contains("prefixItems") && !list->contains("prefixItems") && list->contains("items")) {
        return refused(path, "combines \"prefixItems\" with the \"items\" of another schema");
      }
    }
    return {};
  }

  // "nullable" widens the type that stands beside it, and nothing else.
  static void spell_out_null(Json& schema) {
    if (!schema.contains("nullable")) return;
    if (schema["nullable"] == Json(true) && schema.contains("type")) {
      Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
      types.push_back("null");
      schema["type"] = types;
    }
    schema.erase("nullable");
  }

  static Json common_types(const Json& a, const Json& b) {
    const Json left = a.is_array() ? a : Json::array({a}), right = b.is_array() ? b : Json::array({b});
    Json both = Json::array();
    for (const Json& x : left) {
      for (const Json& y : right) {
        const bool narrows = x == Json("integer") && y == Json("number");
        if (x == y || narrows) both.push_back(x);
        if (y == Json("integer") && x == Json("number")) both.push_back(y);
      }
    }
    return both;
  }

  Result<std::vector<std::string>> types_of(const Json& schema, const std::string& path) const {
    std::vector<std::string> types;
    const auto add = [&](const std::string& type) {
      if (std::ranges::find(types, type) == types.end()) types.push_back(type);
    };
    if (schema.contains("type")) {
      const Json& given = schema["type"];
      for (const Json& type : given.is_array() ? given : Json::array({given})) {
        if (!type.is_string() || std::ranges::find(kTypes, type.get<std::string>()) == kTypes.end()) {
          return wrong(path, "has the type {:.100}, which is none of JSON's", dump(type));
        }
        add(type.get<std::string>());
      }
      if (types.empty()) return wrong(path, "has an empty list of types");
      return types;
    }
    for (const auto& [keyword, argument] : schema.items()) {
      if (const auto found = kTypeOfKeyword.find(keyword); found != kTypeOfKeyword.end()) add(found->second);
    }
    return types;
  }

  static std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

  Result<Expression> enumeration(const Json& schema, const std::string& path) {
    for (const auto& [keyword, argument] : schema.items()) {
      if (is_assertion(keyword) && keyword != "type" && keyword != "enum" && keyword != "const") {
        return refused(path, "has \"{}\" beside \"enum\" or \"const\"", keyword);
      }
    }
    Json entries = Json::array();
    if (schema.contains("enum")) {
      if (!schema["enum"].is_array()) return wrong(path, "has an \"enum\" that is no list");
      entries = schema["enum"];
    } else {
      entries.push_back(schema["const"]);
    }
    std::vector<std::string> types;
    if (schema.contains("type")) {
      KRAIT_ASSIGN(types, types_of(schema, path));
    }
    std::vector<Expression> parts;
    for (const Json& entry : entries) {
      if (schema.contains("const") && entry != schema["const"]) continue;
      if (!types.empty() && std::ranges::none_of(types, [&](const auto& type) { return is_of_type(entry, type); })) {
        continue;
      }
      parts.push_back(given(entry));
    }
    if (parts.empty()) return wrong(path, "has an \"enum\" or \"const\" without any value of its type");
    return grammar_.choice(std::move(parts));
  }

  Result<Expression> typed(const Json& schema, const std::string& type, const std::string& path, int depth) {
    if (type == "object") return object(schema, path, depth);
    if (type == "array") return array(schema, path, depth);
    if (type == "string") return string(schema, path);
    if (type == "number" || type == "integer") return number(schema, type == "integer", path);
    if (type == "boolean") return grammar_.choice({grammar_.literal("true"), grammar_.literal("false")});
    return grammar_.literal("null");
  }

  // A keyword that counts something.
  Result<std::int32_t> count(const Json& schema, const char* keyword, std::int32_t fallback,
                             const std::string& path) const {
    if (!schema.contains(keyword)) return fallback;
    const Json& number = schema[keyword];
    if (!is_of_type(number, "integer") || number.get<double>() < 0) {
      return wrong(path, "has the {} {:.100}, which counts nothing", keyword, dump(number));
    }
    if (number.get<double>() > kMaximumCount) {
      return refused(path, "has the {} {:.100}; the limit is {}", keyword, dump(number), kMaximumCount);
    }
    return static_cast<std::int32_t>(number.get<double>());
  }

  Result<Expression> string(const Json& schema, const std::string& path) {
    KRAIT_ASSIGN(const std::int32_t least, count(schema, "minLength", 0, path));
    KRAIT_ASSIGN(const std::int32_t most, count(schema, "maxLength", Grammar::kUnlimited, path));
    const bool is_bounded = least > 0 || most != Grammar::kUnlimited;
    const bool has_pattern = schema.contains("pattern"), has_format = schema.contains("format");
    if (has_pattern + has_format + is_bounded > 1) {
      return refused(path,
                     "has more than one of pattern, format and minLength or maxLength: say it all in the pattern");
    }
    for (const char* keyword : {"pattern", "format"}) {
      if (schema.contains(keyword) && !schema[keyword].is_string())
        return wrong(path, "has a {} that is no text", keyword);
    }
    if (has_pattern) return regex(schema["pattern"].get<std::string>(), RegexMatch::kSearch, path);
    if (has_format) {
      const std::string format = schema["format"].get<std::string>();
      const auto known = regex_of_json_format(format);
      if (!known) {
        return refused(path, "has the format \"{:.100}\"; krait keeps {}", format, known_json_formats());
      }
      return regex(*known, RegexMatch::kWhole, path);
    }
    if (!is_bounded) return free_string();
    if (most != Grammar::kUnlimited && most < least) return wrong(path, "has a maxLength below its minLength");
    if (character_ < 0) {
      character_ = grammar_.add_rule("character", false);
      grammar_.set_body(character_, add_json_character(grammar_));
    }
    return quoted(grammar_.repeat(grammar_.call(character_), least, most));
  }

  Result<Expression> regex(std::string_view pattern, RegexMatch match, const std::string& path) {
    auto inner = add_regex(grammar_, pattern, Spelling::kJsonString, match);
    if (!inner) {
      return fail(inner.error().code, "[json schema] {:.200} has a pattern: {}", path, inner.error().message);
    }
    return quoted(*inner);
  }

  Result<Expression> number(const Json& schema, bool is_integer, const std::string& path) {
    if (schema.contains("multipleOf") && !(is_integer && schema["multipleOf"] == Json(1))) {
      return refused(path, "has a \"multipleOf\", which a grammar cannot keep");
    }
    std::optional<NumberBound> low, high;
    const auto read = [&](const char* inclusive, const char* exclusive, bool is_low,
                          std::optional<NumberBound>& bound) -> Result<void> {
      const Json* strictest = nullptr;
      for (const char* keyword : {inclusive, exclusive}) {
        if (!schema.contains(keyword)) continue;
        const Json& given = schema[keyword];
        if (!given.is_number()) return wrong(path, "has a {} that is no number", keyword);
        // Of two equal bounds the exclusive one, which comes second, is the stricter.
        if (strictest != nullptr && (is_low ? given < *strictest : *strictest < given)) continue;
        strictest = &given;
        KRAIT_ASSIGN(Decimal decimal, parse_decimal(given.dump()));
        bound = {std::move(decimal), keyword == exclusive};
      }
      return {};
    };
    KRAIT_TRY(read("minimum", "exclusiveMinimum", true, low));
    KRAIT_TRY(read("maximum", "exclusiveMaximum", false, high));
    return add_json_number(grammar_, is_integer, low, high);
  }

  Result<Expression> array(const Json& schema, const std::string& path, int depth) {
    KRAIT_ASSIGN(std::int32_t least, count(schema, "minItems", 0, path));
    KRAIT_ASSIGN(std::int32_t most, count(schema, "maxItems", Grammar::kUnlimited, path));
    if (schema.contains("uniqueItems") && schema["uniqueItems"] != Json(false)) {
      return refused(path, "has \"uniqueItems\", which a grammar cannot keep");
    }
    std::vector<Expression> first;
    if (schema.contains("prefixItems")) {
      KRAIT_ASSIGN(const Json* items, array_of(schema, "prefixItems", path));
      for (const Json& item : *items) {
        KRAIT_ASSIGN(const Expression part,
                     value(item, fmt::format("{}/prefixItems/{}", path, first.size()), depth + 1));
        first.push_back(part);
      }
    }
    const auto named = static_cast<std::int32_t>(first.size());
    const bool is_closed = schema.contains("items") ? schema["items"] == Json(false) : named > 0;
    if (schema.contains("items") && schema["items"].is_array()) {
      return refused(path, "has a list of \"items\": write \"prefixItems\"");
    }
    if (is_closed) most = most == Grammar::kUnlimited ? named : std::min(most, named);
    if (most != Grammar::kUnlimited && most < least) return wrong(path, "has fewer items than its minItems at most");
    // From the end: what may follow the items there are.
    Expression rest = grammar_.empty();
    if (!is_closed && (most == Grammar::kUnlimited || most > named)) {
      Expression item = any_value();
      if (schema.contains("items")) {
        KRAIT_ASSIGN(item, value(schema["items"], path + "/items", depth + 1));
      }
      const std::int32_t fewest = std::max(least - named, 0),
                         largest = most == Grammar::kUnlimited ? most : most - named;
      rest = named == 0 ? list(item, fewest, largest)
                        : grammar_.repeat(grammar_.sequence({comma(), item}), fewest, largest);
    }
    for (std::int32_t i = most == Grammar::kUnlimited ? named : std::min(named, most); i-- > 0;) {
      const Expression item = first[static_cast<std::size_t>(i)];
      rest = i == 0 ? grammar_.sequence({item, rest}) : grammar_.sequence({comma(), item, rest});
      if (i >= least) rest = grammar_.optional(rest);
    }
    return enclosed("[", rest, "]");
  }

  // Members in the order of "properties", then those that are not named there.
  Result<Expression> object(const Json& schema, const std::string& path, int depth) {
    const Json properties = schema.contains("properties") ? schema["properties"] : Json::object();
    if (!properties.is_object()) return wrong(path, "has \"properties\" that are no object");
    std::set<std::string> required;
    if (schema.contains("required")) {
      if (!schema["required"].is_array()) return wrong(path, "has a \"required\" that is no list");
      for (const Json& name : schema["required"]) {
        if (!name.is_string()) return wrong(path, "has a \"required\" that holds more than names");
        required.insert(name.get<std::string>());
      }
    }
    const Json unnamed = schema.contains("additionalProperties") ? schema["additionalProperties"]
                                                                 : Json(properties.empty() && required.empty());
    KRAIT_ASSIGN(const std::int32_t least, count(schema, "minProperties", 0, path));
    KRAIT_ASSIGN(const std::int32_t most, count(schema, "maxProperties", Grammar::kUnlimited, path));
    if (properties.empty() && required.empty()) return open_object(schema, unnamed, least, most, path, depth);
    if (schema.contains("propertyNames")) return refused(path, "has \"propertyNames\" beside named properties");

    struct Member {
      Expression expression;
      bool is_required;
    };
    std::vector<Member> members;
    std::vector<std::string> names;
    const auto add = [&](const std::string& name, const Json& inner, const std::string& place) -> Result<void> {
      KRAIT_ASSIGN(const Expression inside, value(inner, place, depth + 1));
      members.push_back({member(quoted(grammar_.text(name, Spelling::kJsonString)), inside), required.contains(name)});
      names.push_back(name);
      return {};
    };
    for (const auto& [name, inner] : properties.items()) {
      KRAIT_TRY(add(name, inner, fmt::format("{}/properties/{}", path, name)));
    }
    for (const std::string& name : required) {
      if (properties.contains(name)) continue;
      if (unnamed == Json(false) && schema.contains("additionalProperties")) {
        return wrong(path, "requires \"{:.100}\" and allows no such property", name);
      }
      KRAIT_TRY(add(name, schema.contains("additionalProperties") ? unnamed : Json(true), path));
    }
    if (std::cmp_greater(least, required.size()) ||
        (most != Grammar::kUnlimited && (unnamed != Json(false) || std::cmp_less(most, members.size())))) {
      return refused(path,
                     "has \"minProperties\" or \"maxProperties\" beside named properties that do not ensure them");
    }
    // From the end: what may follow when something stands before it, and when nothing does.
    Expression after = grammar_.empty(), at_start = after;
    if (unnamed != Json(false)) {
      KRAIT_ASSIGN(const Expression inside, value(unnamed, path + "/additionalProperties", depth + 1));
      const Expression other = member(add_json_string_except(grammar_, names), inside);
      after = grammar_.repeat(grammar_.sequence({comma(), other}), 0, Grammar::kUnlimited);
      at_start = grammar_.optional(grammar_.sequence({other, after}));
    }
    for (std::size_t i = members.size(); i-- > 0;) {
      const Expression first = grammar_.sequence({members[i].expression, after});
      at_start = members[i].is_required ? first : grammar_.choice({first, at_start});
      const Expression next = grammar_.sequence({comma(), members[i].expression});
      after = grammar_.sequence({members[i].is_required ? next : grammar_.optional(next), after});
    }
    return enclosed("{", at_start, "}");
  }

  // An object that names no properties.
  Result<Expression> open_object(const Json& schema, const Json& unnamed, std::int32_t least, std::int32_t most,
                                 const std::string& path, int depth) {
    if (least > 1) return refused(path, "has minProperties {}: that names differ is not enforced", least);
    if (unnamed == Json(false)) most = 0;
    if (most != Grammar::kUnlimited && most < least) return wrong(path, "has fewer properties than its minProperties");
    Expression key = free_string();
    if (schema.contains("propertyNames")) {
      KRAIT_ASSIGN(const Json names, merge(Json{{"type", "string"}}, schema["propertyNames"], path, depth));
      KRAIT_ASSIGN(key, value(names, path + "/propertyNames", depth + 1));
    }
    KRAIT_ASSIGN(const Expression inside, value(unnamed, path + "/additionalProperties", depth + 1));
    return map(key, inside, least, most);
  }

  const Json& root_;
  JsonSchemaOptions options_;
  Grammar grammar_;
  std::map<std::string, std::int32_t> references_;  // their rules
  std::vector<std::string> waiting_;                // references whose rules have no body yet
  std::int32_t any_value_ = -1, character_ = -1;    // rules
  int visits_ = 0;
};

}  // namespace

Result<Grammar> grammar_of_json_schema(std::string_view schema, const JsonSchemaOptions& options) {
  if (schema.size() > kMaximumSchemaBytes) {
    return fail(ErrorCode::kInvalidArgument, "[json schema] it has {} bytes; the limit is {}", schema.size(),
                kMaximumSchemaBytes);
  }
  if (is_too_deep(schema)) {
    return fail(ErrorCode::kInvalidArgument, "[json schema] it is nested deeper than {}", 4 * kMaximumDepth);
  }
  try {
    const Json root = Json::parse(schema);
    return SchemaReader(root, options).read();
  } catch (const Json::parse_error& error) {
    return fail(ErrorCode::kInvalidArgument, "[json schema] not JSON at byte {}: {:.200}", error.byte, error.what());
  } catch (const Json::out_of_range& error) {
    return fail(ErrorCode::kInvalidArgument, "[json schema] a number is out of range: {:.200}", error.what());
  }
}

Grammar grammar_of_json_object(const JsonSchemaOptions& options) {
  const Json root;
  return SchemaReader(root, options).any_object();
}

}  // namespace krait::formats
