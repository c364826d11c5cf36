// A schema is read keyword by keyword; what combines schemas (allOf, and what stands beside anyOf, oneOf and $ref) is
// merged into one schema first. Schemas that others refer to become rules, all else stands in place.
#include "krait/formats/json_schema.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "krait/formats/grammar_regex.h"
#include "krait/formats/json_schema_document.h"
#include "krait/formats/json_schema_pieces.h"
#include "krait/formats/json_schema_scalars.h"

namespace krait::formats {
namespace {

using Expression = Grammar::Expression;

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
      if (++depth > 4 * kMaximumSchemaDepth) return true;
    } else if (text[i] == '}' || text[i] == ']') {
      --depth;
    }
  }
  return false;
}

class SchemaReader {
 public:
  SchemaReader(const SchemaJson& root, const JsonSchemaOptions& options)
      : document_(root), pieces_(grammar_, options.space) {}

  Result<Grammar> read() {
    const std::int32_t start = grammar_.add_rule("#", false);
    KRAIT_ASSIGN(const Expression body, value(document_.root(), "#", 0));
    grammar_.set_body(start, body);
    while (!waiting_.empty()) {
      const std::string pointer = std::move(waiting_.back());
      waiting_.pop_back();
      KRAIT_ASSIGN(const SchemaJson* target, document_.resolve(pointer, pointer));
      KRAIT_ASSIGN(const Expression referred, value(*target, pointer, 0));
      grammar_.set_body(references_.at(pointer), referred);
    }
    return std::move(grammar_);
  }

  Grammar any_object() {
    const std::int32_t start = grammar_.add_rule("object", false);
    grammar_.set_body(start, pieces_.map(pieces_.free_string(), pieces_.any_value(), 0, Grammar::kUnlimited));
    return std::move(grammar_);
  }

 private:
  Result<Expression> value(const SchemaJson& schema, const std::string& path, int depth) {
    KRAIT_TRY(document_.visit(path, depth));
    if (schema.is_boolean()) return schema.get<bool>() ? pieces_.any_value() : grammar_.nothing();
    if (!schema.is_object()) return wrong_schema(path, "is neither an object nor true or false");
    for (const auto& [keyword, argument] : schema.items()) {
      if (is_schema_assertion(keyword) && !is_known_assertion(keyword)) {
        return refused_schema(path, "has the keyword \"{:.100}\", which is not supported", keyword);
      }
    }
    if (schema.contains("$ref")) return reference(schema, path, depth);
    if (schema.contains("allOf")) {
      KRAIT_ASSIGN(const SchemaJson* parts, schema_list(schema, "allOf", path));
      SchemaJson merged = without_keyword(schema, "allOf");
      for (const SchemaJson& part : *parts) {
        KRAIT_ASSIGN(merged, document_.merge(merged, part, path, depth));
      }
      return value(merged, path, depth + 1);
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (schema.contains(keyword)) return alternatives(schema, keyword, path, depth);
    }
    if (schema.contains("nullable")) {
      if (!schema["nullable"].is_boolean()) return wrong_schema(path, "has a \"nullable\" that is not true or false");
      KRAIT_ASSIGN(const Expression rest, value(without_keyword(schema, "nullable"), path, depth + 1));
      return schema["nullable"].get<bool>() ? grammar_.choice({rest, grammar_.literal("null")}) : rest;
    }
    if (schema.contains("enum") || schema.contains("const")) return enumeration(schema, path);
    KRAIT_ASSIGN(const std::vector<std::string> types, types_of_schema(schema, path));
    if (types.empty()) return pieces_.any_value();
    std::vector<Expression> parts;
    for (const std::string& type : types) {
      KRAIT_ASSIGN(const Expression part, typed(schema, type, path, depth));
      parts.push_back(part);
    }
    return grammar_.choice(std::move(parts));
  }

  Result<Expression> alternatives(const SchemaJson& schema, const char* keyword, const std::string& path, int depth) {
    KRAIT_ASSIGN(const SchemaJson* parts, schema_list(schema, keyword, path));
    const SchemaJson beside = without_keyword(schema, keyword);
    const bool merges = has_schema_assertions(beside);
    std::vector<Expression> found;
    for (std::size_t i = 0; i < parts->size(); ++i) {
      const std::string place = fmt::format("{}/{}/{}", path, keyword, i);
      SchemaJson whole;
      if (merges) {
        KRAIT_ASSIGN(whole, document_.merge(beside, (*parts)[i], place, depth));
      }
      KRAIT_ASSIGN(const Expression part, value(merges ? whole : (*parts)[i], place, depth + 1));
      found.push_back(part);
    }
    return grammar_.choice(std::move(found));
  }

  Result<Expression> reference(const SchemaJson& schema, const std::string& path, int depth) {
    if (!schema["$ref"].is_string()) return wrong_schema(path, "has a \"$ref\" that is no text");
    const std::string pointer = schema["$ref"].get<std::string>();
    KRAIT_ASSIGN(const SchemaJson* target, document_.resolve(pointer, path));
    const SchemaJson beside = without_keyword(schema, "$ref");
    if (has_schema_assertions(beside)) {
      KRAIT_ASSIGN(const SchemaJson merged, document_.merge(beside, *target, path, depth));
      return value(merged, path, depth + 1);
    }
    const auto [found, is_new] = references_.try_emplace(pointer, 0);
    if (is_new) {
      found->second = grammar_.add_rule(pointer, true);
      waiting_.push_back(pointer);
    }
    return grammar_.call(found->second);
  }

  Result<Expression> enumeration(const SchemaJson& schema, const std::string& path) {
    for (const auto& [keyword, argument] : schema.items()) {
      if (is_schema_assertion(keyword) && keyword != "type" && keyword != "enum" && keyword != "const") {
        return refused_schema(path, "has \"{}\" beside \"enum\" or \"const\"", keyword);
      }
    }
    SchemaJson entries = SchemaJson::array();
    if (schema.contains("enum")) {
      if (!schema["enum"].is_array()) return wrong_schema(path, "has an \"enum\" that is no list");
      entries = schema["enum"];
    } else {
      entries.push_back(schema["const"]);
    }
    std::vector<std::string> types;
    if (schema.contains("type")) {
      KRAIT_ASSIGN(types, types_of_schema(schema, path));
    }
    std::vector<Expression> parts;
    for (const SchemaJson& entry : entries) {
      if (schema.contains("const") && entry != schema["const"]) continue;
      if (!types.empty() &&
          std::ranges::none_of(types, [&](const auto& type) { return is_of_json_type(entry, type); })) {
        continue;
      }
      parts.push_back(pieces_.given(entry));
    }
    if (parts.empty()) return wrong_schema(path, "has an \"enum\" or \"const\" without any value of its type");
    return grammar_.choice(std::move(parts));
  }

  Result<Expression> typed(const SchemaJson& schema, const std::string& type, const std::string& path, int depth) {
    if (type == "object") return object(schema, path, depth);
    if (type == "array") return array(schema, path, depth);
    if (type == "string") return string(schema, path);
    if (type == "number" || type == "integer") return number(schema, type == "integer", path);
    if (type == "boolean") return grammar_.choice({grammar_.literal("true"), grammar_.literal("false")});
    return grammar_.literal("null");
  }

  Result<Expression> string(const SchemaJson& schema, const std::string& path) {
    KRAIT_ASSIGN(const std::int32_t least, schema_count(schema, "minLength", 0, path));
    KRAIT_ASSIGN(const std::int32_t most, schema_count(schema, "maxLength", Grammar::kUnlimited, path));
    const bool is_bounded = least > 0 || most != Grammar::kUnlimited;
    const bool has_pattern = schema.contains("pattern"), has_format = schema.contains("format");
    if (has_pattern + has_format + is_bounded > 1) {
      return refused_schema(
          path, "has more than one of pattern, format and minLength or maxLength: say it all in the pattern");
    }
    for (const char* keyword : {"pattern", "format"}) {
      if (schema.contains(keyword) && !schema[keyword].is_string())
        return wrong_schema(path, "has a {} that is no text", keyword);
    }
    if (has_pattern) return regex(schema["pattern"].get<std::string>(), RegexMatch::kSearch, path);
    if (has_format) {
      const std::string format = schema["format"].get<std::string>();
      const auto known = regex_of_json_format(format);
      if (!known) {
        return refused_schema(path, "has the format \"{:.100}\"; krait keeps {}", format, known_json_formats());
      }
      return regex(*known, RegexMatch::kWhole, path);
    }
    if (!is_bounded) return pieces_.free_string();
    if (most != Grammar::kUnlimited && most < least) return wrong_schema(path, "has a maxLength below its minLength");
    return pieces_.quoted(grammar_.repeat(pieces_.character(), least, most));
  }

  Result<Expression> regex(std::string_view pattern, RegexMatch match, const std::string& path) {
    auto inner = add_regex(grammar_, pattern, Spelling::kJsonString, match);
    if (!inner) {
      return fail(inner.error().code, "[json schema] {:.200} has a pattern: {}", path, inner.error().message);
    }
    return pieces_.quoted(*inner);
  }

  Result<Expression> number(const SchemaJson& schema, bool is_integer, const std::string& path) {
    if (schema.contains("multipleOf") && !(is_integer && schema["multipleOf"] == SchemaJson(1))) {
      return refused_schema(path, "has a \"multipleOf\", which a grammar cannot keep");
    }
    std::optional<NumberBound> low, high;
    const auto read = [&](const char* inclusive, const char* exclusive, bool is_low,
                          std::optional<NumberBound>& bound) -> Result<void> {
      const SchemaJson* strictest = nullptr;
      for (const char* keyword : {inclusive, exclusive}) {
        if (!schema.contains(keyword)) continue;
        const SchemaJson& given = schema[keyword];
        if (!given.is_number()) return wrong_schema(path, "has a {} that is no number", keyword);
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

  Result<Expression> array(const SchemaJson& schema, const std::string& path, int depth) {
    KRAIT_ASSIGN(std::int32_t least, schema_count(schema, "minItems", 0, path));
    KRAIT_ASSIGN(std::int32_t most, schema_count(schema, "maxItems", Grammar::kUnlimited, path));
    if (schema.contains("uniqueItems") && schema["uniqueItems"] != SchemaJson(false)) {
      return refused_schema(path, "has \"uniqueItems\", which a grammar cannot keep");
    }
    std::vector<Expression> first;
    if (schema.contains("prefixItems")) {
      KRAIT_ASSIGN(const SchemaJson* items, schema_list(schema, "prefixItems", path));
      for (const SchemaJson& item : *items) {
        KRAIT_ASSIGN(const Expression part,
                     value(item, fmt::format("{}/prefixItems/{}", path, first.size()), depth + 1));
        first.push_back(part);
      }
    }
    const auto named = static_cast<std::int32_t>(first.size());
    const bool is_closed = schema.contains("items") ? schema["items"] == SchemaJson(false) : named > 0;
    if (schema.contains("items") && schema["items"].is_array()) {
      return refused_schema(path, "has a list of \"items\": write \"prefixItems\"");
    }
    if (is_closed) most = most == Grammar::kUnlimited ? named : std::min(most, named);
    if (most != Grammar::kUnlimited && most < least)
      return wrong_schema(path, "has fewer items than its minItems at most");
    // From the end: what may follow the items there are.
    Expression rest = grammar_.empty();
    if (!is_closed && (most == Grammar::kUnlimited || most > named)) {
      Expression item = pieces_.any_value();
      if (schema.contains("items")) {
        KRAIT_ASSIGN(item, value(schema["items"], path + "/items", depth + 1));
      }
      const std::int32_t fewest = std::max(least - named, 0),
                         largest = most == Grammar::kUnlimited ? most : most - named;
      rest = named == 0 ? pieces_.list(item, fewest, largest)
                        : grammar_.repeat(grammar_.sequence({pieces_.comma(), item}), fewest, largest);
    }
    for (std::int32_t i = most == Grammar::kUnlimited ? named : std::min(named, most); i-- > 0;) {
      const Expression item = first[static_cast<std::size_t>(i)];
      rest = i == 0 ? grammar_.sequence({item, rest}) : grammar_.sequence({pieces_.comma(), item, rest});
      if (i >= least) rest = grammar_.optional(rest);
    }
    return pieces_.enclosed("[", rest, "]");
  }

  // Members in the order of "properties", then those that are not named there.
  Result<Expression> object(const SchemaJson& schema, const std::string& path, int depth) {
    const SchemaJson properties = schema.contains("properties") ? schema["properties"] : SchemaJson::object();
    if (!properties.is_object()) return wrong_schema(path, "has \"properties\" that are no object");
    std::set<std::string> required;
    if (schema.contains("required")) {
      if (!schema["required"].is_array()) return wrong_schema(path, "has a \"required\" that is no list");
      for (const SchemaJson& name : schema["required"]) {
        if (!name.is_string()) return wrong_schema(path, "has a \"required\" that holds more than names");
        required.insert(name.get<std::string>());
      }
    }
    const SchemaJson unnamed = schema.contains("additionalProperties")
                                   ? schema["additionalProperties"]
                                   : SchemaJson(properties.empty() && required.empty());
    KRAIT_ASSIGN(const std::int32_t least, schema_count(schema, "minProperties", 0, path));
    KRAIT_ASSIGN(const std::int32_t most, schema_count(schema, "maxProperties", Grammar::kUnlimited, path));
    if (properties.empty() && required.empty()) return open_object(schema, unnamed, least, most, path, depth);
    if (schema.contains("propertyNames")) return refused_schema(path, "has \"propertyNames\" beside named properties");

    struct Member {
      Expression expression;
      bool is_required;
    };
    std::vector<Member> members;
    std::vector<std::string> names;
    const auto add = [&](const std::string& name, const SchemaJson& inner, const std::string& place) -> Result<void> {
      KRAIT_ASSIGN(const Expression inside, value(inner, place, depth + 1));
      members.push_back({pieces_.member(pieces_.quoted(grammar_.text(name, Spelling::kJsonString)), inside),
                         required.contains(name)});
      names.push_back(name);
      return {};
    };
    for (const auto& [name, inner] : properties.items()) {
      KRAIT_TRY(add(name, inner, fmt::format("{}/properties/{}", path, name)));
    }
    for (const std::string& name : required) {
      if (properties.contains(name)) continue;
      if (unnamed == SchemaJson(false) && schema.contains("additionalProperties")) {
        return wrong_schema(path, "requires \"{:.100}\" and allows no such property", name);
      }
      KRAIT_TRY(add(name, schema.contains("additionalProperties") ? unnamed : SchemaJson(true), path));
    }
    if (std::cmp_greater(least, required.size()) ||
        (most != Grammar::kUnlimited && (unnamed != SchemaJson(false) || std::cmp_less(most, members.size())))) {
      return refused_schema(
          path, "has \"minProperties\" or \"maxProperties\" beside named properties that do not ensure them");
    }
    // From the end: what may follow when something stands before it, and when nothing does.
    Expression after = grammar_.empty(), at_start = after;
    if (unnamed != SchemaJson(false)) {
      KRAIT_ASSIGN(const Expression inside, value(unnamed, path + "/additionalProperties", depth + 1));
      const Expression other = pieces_.member(add_json_string_except(grammar_, names), inside);
      after = grammar_.repeat(grammar_.sequence({pieces_.comma(), other}), 0, Grammar::kUnlimited);
      at_start = grammar_.optional(grammar_.sequence({other, after}));
    }
    for (std::size_t i = members.size(); i-- > 0;) {
      const Expression first = grammar_.sequence({members[i].expression, after});
      at_start = members[i].is_required ? first : grammar_.choice({first, at_start});
      const Expression next = grammar_.sequence({pieces_.comma(), members[i].expression});
      after = grammar_.sequence({members[i].is_required ? next : grammar_.optional(next), after});
    }
    return pieces_.enclosed("{", at_start, "}");
  }

  // An object that names no properties.
  Result<Expression> open_object(const SchemaJson& schema, const SchemaJson& unnamed, std::int32_t least,
                                 std::int32_t most, const std::string& path, int depth) {
    if (least > 1) return refused_schema(path, "has minProperties {}: that names differ is not enforced", least);
    if (unnamed == SchemaJson(false)) most = 0;
    if (most != Grammar::kUnlimited && most < least)
      return wrong_schema(path, "has fewer properties than its minProperties");
    Expression key = pieces_.free_string();
    if (schema.contains("propertyNames")) {
      KRAIT_ASSIGN(const SchemaJson names,
                   document_.merge(SchemaJson{{"type", "string"}}, schema["propertyNames"], path, depth));
      KRAIT_ASSIGN(key, value(names, path + "/propertyNames", depth + 1));
    }
    KRAIT_ASSIGN(const Expression inside, value(unnamed, path + "/additionalProperties", depth + 1));
    return pieces_.map(key, inside, least, most);
  }

  SchemaDocument document_;
  Grammar grammar_;
  JsonPieces pieces_;                               // adds to the grammar
  std::map<std::string, std::int32_t> references_;  // their rules
  std::vector<std::string> waiting_;                // references whose rules have no body yet
};

}  // namespace

Result<Grammar> grammar_of_json_schema(std::string_view schema, const JsonSchemaOptions& options) {
  if (schema.size() > kMaximumSchemaBytes) {
    return fail(ErrorCode::kInvalidArgument, "[json schema] it has {} bytes; the limit is {}", schema.size(),
                kMaximumSchemaBytes);
  }
  if (is_too_deep(schema)) {
    return fail(ErrorCode::kInvalidArgument, "[json schema] it is nested deeper than {}", 4 * kMaximumSchemaDepth);
  }
  try {
    const SchemaJson root = SchemaJson::parse(schema);
    return SchemaReader(root, options).read();
  } catch (const SchemaJson::parse_error& error) {
    return fail(ErrorCode::kInvalidArgument, "[json schema] not JSON at byte {}: {:.200}", error.byte, error.what());
  } catch (const SchemaJson::out_of_range& error) {
    return fail(ErrorCode::kInvalidArgument, "[json schema] a number is out of range: {:.200}", error.what());
  }
}

Grammar grammar_of_json_object(const JsonSchemaOptions& options) {
  const SchemaJson root;
  return SchemaReader(root, options).any_object();
}

}  // namespace krait::formats
