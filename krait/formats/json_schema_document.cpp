#include "krait/formats/json_schema_document.h"

#include <algorithm>
#include <charconv>

namespace krait::formats {
namespace {

constexpr int kMaximumVisits = 10000;  // of schemas, each as often as it stands somewhere

// Properties or items that one side of a merge names and the other shuts out, or restricts without naming them.
Result<void> check_closed(const SchemaJson& a, const SchemaJson& b, const std::string& path) {
  for (const auto& [closed, open] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    if (!closed->contains("additionalProperties") || (*closed)["additionalProperties"] == SchemaJson(true)) continue;
    if (!open->contains("properties") || !(*open)["properties"].is_object()) continue;
    for (const auto& [name, property] : (*open)["properties"].items()) {
      if (closed->contains("properties") && (*closed)["properties"].contains(name)) continue;
      return refused_schema(path, "combines \"additionalProperties\" with the property \"{:.100}\" of another schema",
                            name);
    }
  }
  for (const auto& [tuple, list] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    if (tuple->contains("prefixItems") && !list->contains("prefixItems") && list->contains("items")) {
      return refused_schema(path, "combines \"prefixItems\" with the \"items\" of another schema");
    }
  }
  return {};
}

// "nullable" widens the type that stands beside it, and nothing else.
void spell_out_null(SchemaJson& schema) {
  if (!schema.contains("nullable")) return;
  if (schema["nullable"] == SchemaJson(true) && schema.contains("type")) {
    SchemaJson types = schema["type"].is_array() ? schema["type"] : SchemaJson::array({schema["type"]});
    types.push_back("null");
    schema["type"] = types;
  }
  schema.erase("nullable");
}

SchemaJson common_types(const SchemaJson& a, const SchemaJson& b) {
  const SchemaJson left = a.is_array() ? a : SchemaJson::array({a}), right = b.is_array() ? b : SchemaJson::array({b});
  SchemaJson both = SchemaJson::array();
  for (const SchemaJson& x : left) {
    for (const SchemaJson& y : right) {
      const bool narrows = x == SchemaJson("integer") && y == SchemaJson("number");
      if (x == y || narrows) both.push_back(x);
      if (y == SchemaJson("integer") && x == SchemaJson("number")) both.push_back(y);
    }
  }
  return both;
}

}  // namespace

Result<void> SchemaDocument::visit(const std::string& path, int depth) {
  if (depth > kMaximumSchemaDepth) return wrong_schema(path, "is nested deeper than {}", kMaximumSchemaDepth);
  if (++visits_ > kMaximumVisits) return wrong_schema("#", "unfolds into more than {} schemas", kMaximumVisits);
  return {};
}

Result<const SchemaJson*> SchemaDocument::resolve(const std::string& reference, const std::string& path) const {
  if (!reference.starts_with('#')) return refused_schema(path, "refers to \"{:.200}\" outside this schema", reference);
  std::string pointer;
  for (std::size_t i = 1; i < reference.size(); ++i) {
    unsigned code = 0;
    if (reference[i] == '%' && i + 2 < reference.size() &&
        std::from_chars(reference.data() + i + 1, reference.data() + i + 3, code, 16).ptr == reference.data() + i + 3) {
      pointer += static_cast<char>(code);
      i += 2;
    } else {
      pointer += reference[i];
    }
  }
  if (!pointer.empty() && pointer.front() != '/')
    return refused_schema(path, "refers to an anchor, \"{:.200}\"", reference);
  try {
    return &root_.at(SchemaJson::json_pointer(pointer));
  } catch (const SchemaJson::exception&) {
    return wrong_schema(path, "refers to \"{:.200}\", which is not there", reference);
  }
}

Result<SchemaJson> SchemaDocument::merge(SchemaJson a, SchemaJson b, const std::string& path, int depth) {
  KRAIT_TRY(visit(path, depth));
  if (a.is_boolean()) std::swap(a, b);
  if (b.is_boolean()) return b.get<bool>() ? a : SchemaJson(false);
  if (!a.is_object() || !b.is_object()) return wrong_schema(path, "combines what is no schema");
  for (SchemaJson* side : {&a, &b}) {
    if (!side->contains("$ref")) continue;
    if (!(*side)["$ref"].is_string()) return wrong_schema(path, "has a \"$ref\" that is no text");
    KRAIT_ASSIGN(const SchemaJson* target, resolve((*side)["$ref"].get<std::string>(), path));
    KRAIT_ASSIGN(*side, merge(without_keyword(*side, "$ref"), *target, path, depth + 1));
    if (side->is_boolean()) return merge(std::move(a), std::move(b), path, depth + 1);
  }
  for (SchemaJson* side : {&a, &b}) spell_out_null(*side);
  KRAIT_TRY(check_closed(a, b, path));
  for (const auto& [keyword, argument] : b.items()) {
    if (!is_schema_assertion(keyword)) continue;
    if (!a.contains(keyword)) {
      a[keyword] = argument;
      continue;
    }
    SchemaJson& mine = a[keyword];
    const auto is_text_list = [](const SchemaJson& list) {
      return list.is_array() && std::ranges::all_of(list, [](const SchemaJson& entry) { return entry.is_string(); });
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
      for (const SchemaJson& name : argument) {
        if (std::ranges::find(mine, name) == mine.end()) mine.push_back(name);
      }
    } else if (keyword == "allOf" && mine.is_array() && argument.is_array()) {
      for (const SchemaJson& part : argument) mine.push_back(part);
    } else if (keyword == "type") {
      const SchemaJson both = common_types(mine, argument);
      if (both.empty()) return SchemaJson(false);
      mine = both;
    } else if (keyword == "enum" && mine.is_array() && argument.is_array()) {
      SchemaJson both = SchemaJson::array();
      for (const SchemaJson& entry : mine) {
        if (std::ranges::find(argument, entry) != argument.end()) both.push_back(entry);
      }
      if (both.empty()) return SchemaJson(false);
      mine = both;
    } else if ((keyword == "items" || keyword == "additionalProperties") && mine != argument) {
      KRAIT_ASSIGN(mine, merge(mine, argument, path + "/" + keyword, depth + 1));
    } else if (keyword.starts_with("min") || keyword == "exclusiveMinimum" || keyword.starts_with("max") ||
               keyword == "exclusiveMaximum") {
      if (!mine.is_number() || !argument.is_number())
        return wrong_schema(path, "has a \"{}\" that is no number", keyword);
      const bool is_low = keyword.starts_with("min") || keyword == "exclusiveMinimum";
      if (is_low ? mine < argument : argument < mine) mine = argument;
    } else if (keyword == "const") {
      if (mine != argument) return SchemaJson(false);
    } else if (mine != argument) {
      return refused_schema(path, "combines two different \"{}\": that is not supported", keyword);
    }
  }
  return a;
}

}  // namespace krait::formats
