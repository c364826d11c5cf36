#include "krait/server/tool_call_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "krait/formats/json_schema.h"

namespace krait::server {
namespace {

using formats::Grammar;
using Expression = Grammar::Expression;
using Json = nlohmann::ordered_json;

Error in_function(const ToolDefinition& tool, Error error) {
  error.message = fmt::format("the parameters of \"{}\": {}", tool.name, error.message);
  return error;
}

Result<Expression> add_object(Grammar& grammar, const ToolDefinition& tool) {
  if (tool.parameters.empty() || tool.parameters == "{}") {
    return grammar.embed(formats::grammar_of_json_object({}));
  }
  // Arguments are an object, also where the schema leaves that open.
  Json parameters = Json::parse(tool.parameters, nullptr, false);
  if (parameters.is_object() && !parameters.contains("type")) parameters["type"] = "object";
  if (!parameters.is_object() || parameters["type"] != "object") {
    return std::unexpected(in_function(
        tool, Error{ErrorCode::kInvalidArgument, "\"type\" must be \"object\": arguments have names"}));
  }
  auto schema = formats::grammar_of_json_schema(parameters.dump(), {});
  if (!schema) return std::unexpected(in_function(tool, std::move(schema).error()));
  return grammar.embed(*schema);
}

// Text up to the mark behind it: without "<", which could begin the mark.
Expression raw_text(Grammar& grammar) {
  const formats::CodePoints plain = formats::complement({{U'\0', U'\x08'}, {U'\x0b', U'\x1f'}, {U'<', U'<'}});
  return grammar.repeat(grammar.characters(plain, formats::Spelling::kPlain), 0, Grammar::kUnlimited);
}

bool is_note(const std::string& keyword) {
  return keyword == "type" || keyword == "title" || keyword == "description" || keyword == "default" ||
         keyword == "examples" || keyword == "enum";
}

// A string stands there as it is, anything else as JSON.
Result<Expression> add_xml_value(Grammar& grammar, const ToolDefinition& tool, const std::string& key, Json schema,
                                 const Json& root) {
  if (schema.is_object() && schema.value("type", Json()) == "string") {
    for (const auto& [keyword, ignored] : schema.items()) {
      if (is_note(keyword)) continue;
      return std::unexpected(in_function(
          tool, Error{ErrorCode::kUnsupported,
                      fmt::format("\"{}\" of the string \"{}\" cannot be kept in this model's form of calls", keyword,
                                  key)}));
    }
    if (!schema.contains("enum")) return raw_text(grammar);
    std::vector<Expression> texts;
    for (const Json& text : schema["enum"]) {
      if (text.is_string()) texts.push_back(grammar.literal(text.get<std::string>()));
    }
    return grammar.choice(std::move(texts));
  }
  if (schema.is_object()) {
    for (const char* definitions : {"$defs", "definitions"}) {
      if (root.contains(definitions) && !schema.contains(definitions)) schema[definitions] = root[definitions];
    }
  }
  auto value = formats::grammar_of_json_schema(schema.dump(), {.space = formats::JsonSpace::kNone});
  if (!value) return std::unexpected(in_function(tool, std::move(value).error()));
  return grammar.embed(*value);
}

Result<Expression> add_xml(Grammar& grammar, const ToolDefinition& tool) {
  const Json root = tool.parameters.empty() ? Json::object() : Json::parse(tool.parameters, nullptr, false);
  std::vector<Expression> parts = {grammar.literal(fmt::format("<function={}>\n", tool.name))};
  const Json properties = root.is_object() ? root.value("properties", Json::object()) : Json::object();
  if (root.is_object()) {
    for (const auto& [keyword, ignored] : root.items()) {
      if (is_note(keyword) || keyword == "properties" || keyword == "required" || keyword == "additionalProperties" ||
          keyword == "$defs" || keyword == "definitions" || keyword == "$schema" || keyword.starts_with("x-")) {
        continue;
      }
      return std::unexpected(in_function(
          tool,
          Error{ErrorCode::kUnsupported, fmt::format("\"{}\" cannot be kept in this model's form of calls", keyword)}));
    }
  }
  if (!properties.is_object()) {
    return std::unexpected(in_function(tool, Error{ErrorCode::kInvalidArgument, "\"properties\" is no object"}));
  }
  const Json required = root.is_object() ? root.value("required", Json::array()) : Json::array();
  for (const auto& [key, schema] : properties.items()) {
    if (key.empty() || key.find_first_of("<>\n") != std::string::npos) {
      return std::unexpected(in_function(
          tool,
          Error{ErrorCode::kUnsupported, fmt::format("\"{}\" cannot be a name in this model's form of calls", key)}));
    }
    KRAIT_ASSIGN(const Expression value, add_xml_value(grammar, tool, key, schema, root));
    const Expression parameter = grammar.sequence(
        {grammar.literal(fmt::format("<parameter={}>\n", key)), value, grammar.literal("\n</parameter>\n")});
    const bool must = std::ranges::find(required, Json(key)) != required.end();
    parts.push_back(must ? parameter : grammar.optional(parameter));
  }
  parts.push_back(grammar.literal("</function>"));
  return grammar.sequence(std::move(parts));
}

Result<Expression> add_call(Grammar& grammar, const ToolForm& form, const ToolUse& use) {
  std::vector<Expression> calls;
  for (const ToolDefinition& tool : use.tools) {
    if (!use.only.empty() && tool.name != use.only) continue;
    if (form.body == ToolForm::Body::xml) {
      KRAIT_ASSIGN(const Expression call, add_xml(grammar, tool));
      calls.push_back(call);
      continue;
    }
    KRAIT_ASSIGN(const Expression arguments, add_object(grammar, tool));
    calls.push_back(
        grammar.sequence({grammar.literal(fmt::format(R"({{"name": "{}", "{}": )", tool.name, form.arguments)),
                          arguments, grammar.literal("}")}));
  }
  return grammar.choice(std::move(calls));
}

// One call, or as many as are allowed.
Expression several(Grammar& grammar, const ToolUse& use, Expression one, std::string_view between) {
  if (!use.parallel) return one;
  return grammar.sequence({one, grammar.repeat(grammar.sequence({grammar.literal(between), one}), 0, kMostCalls - 1)});
}

Result<Expression> add_calls(Grammar& grammar, const ToolForm& form, const ToolUse& use, bool open) {
  KRAIT_ASSIGN(const Expression call, add_call(grammar, form, use));
  const bool list = form.body == ToolForm::Body::list;
  Expression body =
      list ? grammar.sequence({grammar.literal("["), several(grammar, use, call, ", "), grammar.literal("]")}) : call;
  if (open || form.opening.empty()) return body;
  std::vector<Expression> parts = {grammar.literal(form.opening + form.indent), body};
  if (!form.closing.empty()) parts.push_back(grammar.literal(form.indent + form.closing));
  body = grammar.sequence(std::move(parts));
  return list ? body : several(grammar, use, body, "\n");
}

}  // namespace

Result<Grammar> tool_call_grammar(const ToolForm& form, const ToolUse& use, bool open) {
  Grammar grammar;
  const std::int32_t rule = grammar.add_rule("calls of functions", false);
  KRAIT_ASSIGN(const Expression calls, add_calls(grammar, form, use, open));
  grammar.set_body(rule, calls);
  return grammar;
}

Result<Grammar> tool_call_or_content_grammar(const ToolForm& form, const ToolUse& use, const Grammar& content) {
  Grammar grammar;
  const std::int32_t rule = grammar.add_rule("calls of functions, or a text", false);
  KRAIT_ASSIGN(const Expression calls, add_calls(grammar, form, use, false));
  grammar.set_body(rule, grammar.choice({calls, grammar.embed(content)}));
  return grammar;
}

}  // namespace krait::server
