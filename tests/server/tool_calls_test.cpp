// Calls of functions in each form: found in replies whatever their pieces, and written by grammars.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "krait/formats/json_schema.h"
#include "krait/runtime/constraint.h"
#include "krait/server/tool_call_grammar.h"
#include "krait/server/tool_call_reader.h"

namespace krait::server {
namespace {

using nlohmann::json;

constexpr const char* kWeather = R"({"type": "object", "properties": {"city": {"type": "string"},
  "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city"], "additionalProperties": false})";

ToolUse weather_and_time() {
  ToolUse use;
  use.tools = {{"weather", "", kWeather}, {"time", "", ""}};
  return use;
}

struct Read {
  std::string text;
  std::vector<ToolCall> calls;
  std::vector<std::string> pieces;  // of arguments
  std::vector<bool> ended;
};

// As read with pieces of so many bytes.
Read read(const ToolForm& form, ToolUse use, ToolCallReader::Options options, std::string_view reply,
          std::size_t bytes) {
  ToolCallReader reader(form, std::move(use), options);
  Read out;
  const auto take = [&](const std::vector<ReplyPart>& parts) {
    for (const ReplyPart& part : parts) {
      out.text += part.text;
      if (!part.is_call) continue;
      if (part.begins) {
        EXPECT_EQ(part.call, out.calls.size());
        out.calls.push_back({part.id, part.name, ""});
        out.ended.push_back(false);
      }
      out.calls.at(part.call).arguments += part.arguments;
      if (!part.arguments.empty()) out.pieces.push_back(part.arguments);
      if (part.ends) out.ended.at(part.call) = true;
    }
  };
  for (std::size_t at = 0; at < reply.size(); at += bytes) take(reader.feed(reply.substr(at, bytes)));
  take(reader.finish());
  return out;
}

const ToolForm& form_named(const std::string& name) {
  for (const char* sign :
       {"<function=", "<TOOLCALL>", "<tool_calls>", "[TOOL_CALLS]", "<tool_call>", "\"parameters\": "}) {
    if (tool_form_of(sign).name == name) return tool_form_of(sign);
  }
  return generic_tool_form();
}

// A text, then a call of "weather", then one of "time", as models write it.
const std::vector<std::pair<std::string, std::string>>& samples() {
  static const std::vector<std::pair<std::string, std::string>> kSamples = {
      {"generic", R"(Sure.

<tool_call>
{"name": "weather", "arguments": {"city": "a } \" [", "days": 2}}
</tool_call>
<tool_call>{"name": "time", "arguments": {}}</tool_call>)"},
      {"hermes", R"(Sure.<tool_call>
{"arguments": {"city": "a } \" [", "days": 2}, "name": "weather"}
</tool_call>
<tool_call>
{"name": "time", "arguments": {}}
</tool_call>
)"},
      {"mistral",
       R"(Sure. [TOOL_CALLS][{"name": "weather", "arguments": {"city": "a } \" [", "days": 2}}, {"name": "time", "arguments": {}}])"},
      {"nemotron",
       R"(Sure.<TOOLCALL>[{"name": "weather", "arguments": {"city": "a } \" [", "days": 2}}, {"name": "time", "arguments": "{}"}]</TOOLCALL>)"},
      {"jamba", R"(Sure.<tool_calls>
[
  {"name": "weather", "arguments": {"city": "a } \" [", "days": 2}},
  {"name": "time", "arguments": {}}
]
</tool_calls>)"},
      {"qwen3-coder", R"(Sure.

<tool_call>
<function=weather>
<parameter=city>
a } " [
</parameter>
<parameter=days>
2
</parameter>
</function>
</tool_call>
<tool_call>
<function=time>
</function>
</tool_call>)"},
      {"llama3",
       R"({"name": "weather", "parameters": {"city": "a } \" [", "days": 2}}; {"name": "time", "parameters": {}})"},
  };
  return kSamples;
}

TEST(ToolForms, ATemplateShowsItsForm) {
  EXPECT_EQ(tool_form_of("{{ '<tool_call>' }}").name, "hermes");
  EXPECT_EQ(tool_form_of("<tool_call>\n<function=f>").name, "qwen3-coder");
  EXPECT_EQ(tool_form_of("{{ '[TOOL_CALLS]' }}").name, "mistral");
  EXPECT_EQ(tool_form_of("{{ '\"parameters\": ' }}").name, "llama3");
  EXPECT_EQ(tool_form_of("{{ messages }}").name, "generic");
}

TEST(ToolCallReader, CallsAreFoundWhateverThePieces) {
  for (const auto& [name, reply] : samples()) {
    const ToolForm& form = form_named(name);
    ASSERT_EQ(form.name, name);
    for (const std::size_t bytes : {1, 3, 7, 1000}) {
      const Read got = read(form, weather_and_time(), {}, reply, bytes);
      SCOPED_TRACE(name + " in pieces of " + std::to_string(bytes));
      EXPECT_EQ(got.text, name == "llama3" ? "" : "Sure.");
      ASSERT_EQ(got.calls.size(), 2u);
      EXPECT_EQ(got.calls[0].name, "weather");
      EXPECT_EQ(json::parse(got.calls[0].arguments), (json{{"city", "a } \" ["}, {"days", 2}}));
      EXPECT_EQ(got.calls[1].name, "time");
      EXPECT_EQ(got.calls[1].arguments, "{}");
      EXPECT_EQ(got.ended, (std::vector<bool>{true, true}));
      EXPECT_EQ(got.calls[0].id.size(), 9u);
      EXPECT_NE(got.calls[0].id, got.calls[1].id);
    }
  }
}

TEST(ToolCallReader, WhatIsNoCallStaysTextToTheByte) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> kinds = {
      {"hermes",
       {"no call  at all\n ", "<tool_call", "a < b <tool_", "x\n <tool_call>\n{\"name\": \"weather\", \"argu",
        "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call> and on",
        "<tool_call>{\"name\": \"weather\", \"arguments\": 3}</tool_call>", "<tool_call>nonsense</tool_call>",
        "<tool_call>{\"name\" \"weather\"}</tool_call>", "{\"name\": \"weather\", \"arguments\": {}}"}},
      {"llama3",
       {"{\"answer\": 42}", "{\"name\": \"weather\", \"par", "text {\"name\": \"time\", \"parameters\": {}}",
        "[1, 2]"}},
      {"mistral", {"[TOOL_CALLS][{\"name\": \"weather\"", "[TOOL_CALLS]words", "[TOOL_CALLS][]"}},
      {"qwen3-coder",
       {"<tool_call>\n<function=weather>\n<parameter=city>\nRome",
        "<tool_call>\n<function=none>\n</function>\n</tool_call>",
        "<tool_call>\n<function=weather>\nRome\n</function>\n</tool_call>", "<tool_call> words"}},
  };
  for (const auto& [name, replies] : kinds) {
    for (const std::string& reply : replies) {
      for (const std::size_t bytes : {1, 4, 1000}) {
        const Read got = read(form_named(name), weather_and_time(), {}, reply, bytes);
        EXPECT_EQ(got.text, reply) << name << " in pieces of " << bytes;
        EXPECT_TRUE(got.calls.empty()) << name << ": " << reply;
      }
    }
  }
}

TEST(ToolCallReader, ACallBehindABrokenOneIsFound) {
  const Read got = read(form_named("hermes"), weather_and_time(), {},
                        "<tool_call>oops</tool_call><tool_call>{\"name\": \"time\"}</tool_call>", 5);
  EXPECT_EQ(got.text, "<tool_call>oops</tool_call>");
  ASSERT_EQ(got.calls.size(), 1u);
  EXPECT_EQ(got.calls[0].arguments, "{}");
}

TEST(ToolCallReader, HiddenMarksAreNotWaitedFor) {
  const Read got = read(form_named("mistral"), weather_and_time(), {.hidden_marks = true},
                        R"([{"name": "time", "arguments": {}}])", 4);
  EXPECT_EQ(got.text, "");
  ASSERT_EQ(got.calls.size(), 1u);
  EXPECT_EQ(read(form_named("mistral"), weather_and_time(), {.hidden_marks = true}, "[1] says", 4).text, "[1] says");
}

TEST(ToolCallReader, ConstrainedArgumentsComeInPieces) {
  const std::string call = R"(<tool_call>
{"name": "weather", "arguments": {"city": "a } \" \\", "days": 2}}
</tool_call>
<tool_call>
{"name": "time", "arguments": {"a": [{}]}}
</tool_call>)";
  const Read got = read(form_named("hermes"), weather_and_time(), {.constrained = true}, call, 6);
  EXPECT_EQ(got.text, "");
  ASSERT_EQ(got.calls.size(), 2u);
  EXPECT_EQ(got.calls[0].arguments, R"({"city": "a } \" \\", "days": 2})");
  EXPECT_EQ(got.calls[1].arguments, R"({"a": [{}]})");
  EXPECT_GE(got.pieces.size(), 5u);
  // Cut off: what came of the arguments is kept, and what came before any name is text.
  const Read cut = read(form_named("hermes"), weather_and_time(), {.constrained = true}, call.substr(0, 60), 6);
  ASSERT_EQ(cut.calls.size(), 1u);
  EXPECT_FALSE(cut.ended[0]);
  EXPECT_TRUE(std::string(R"({"city": "a } \" \\", "days": 2})").starts_with(cut.calls[0].arguments));
  EXPECT_EQ(read(form_named("hermes"), weather_and_time(), {.constrained = true}, call.substr(0, 20), 6).text,
            call.substr(0, 20));
  const Read xml =
      read(form_named("qwen3-coder"), weather_and_time(), {.constrained = true}, samples()[5].second.substr(7), 6);
  ASSERT_EQ(xml.calls.size(), 2u);
  EXPECT_EQ(json::parse(xml.calls[0].arguments), (json{{"city", "a } \" ["}, {"days", 2}}));
  EXPECT_EQ(xml.calls[1].arguments, "{}");
}

// A vocabulary of the 256 bytes, and an end.
std::shared_ptr<const runtime::Constraint> compiled(const formats::Grammar& grammar) {
  std::vector<std::string> tokens(257);
  for (std::size_t i = 0; i < 256; ++i) tokens[i] = std::string(1, static_cast<char>(i));
  auto constraint =
      runtime::Constraint::compile(grammar, std::make_shared<runtime::ConstraintVocabulary>(std::move(tokens)), {256});
  if (!constraint) throw std::runtime_error(constraint.error().message);
  return *constraint;
}

bool fits(const formats::Grammar& grammar, std::string_view text) {
  runtime::ConstraintMatcher matcher(compiled(grammar));
  return matcher.accept_bytes(text) && matcher.may_end();
}

TEST(ToolCallGrammar, TextsOfAFormAreItsCalls) {
  const std::vector<std::tuple<std::string, std::string, bool>> cases = {
      {"hermes", "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>", true},
      {"hermes", "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"days\": 2}}\n</tool_call>", false},
      {"hermes", "<tool_call>\n{\"name\": \"rain\", \"arguments\": {}}\n</tool_call>", false},
      {"hermes", "words", false},
      {"mistral",
       "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}, {\"name\": \"time\", \"arguments\": "
       "{\"x\": [1]}}]",
       true},
      {"llama3", "{\"name\": \"weather\", \"parameters\": {\"city\": \"Rome\", \"days\": 9}}", true},
      {"llama3", "{\"name\": \"weather\", \"parameters\": {\"city\": \"Rome\", \"days\": 10}}", false},
      {"nemotron", "<TOOLCALL>[{\"name\": \"time\", \"arguments\": {}}]</TOOLCALL>", true},
      {"jamba", "<tool_calls>\n[{\"name\": \"time\", \"arguments\": {}}]\n</tool_calls>", true},
      {"qwen3-coder",
       "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call>", true},
      {"qwen3-coder", "<tool_call>\n<function=weather>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
       false},
      {"qwen3-coder", "<tool_call>\n<function=time>\n</function>\n</tool_call>", true},
  };
  for (const auto& [name, text, may] : cases) {
    const auto grammar = tool_call_grammar(form_named(name), weather_and_time(), false);
    ASSERT_TRUE(grammar) << grammar.error().message;
    EXPECT_EQ(fits(*grammar, text), may) << name << ": " << text;
    if (!may) continue;
    const Read got = read(form_named(name), weather_and_time(), {.constrained = true}, text, 5);
    EXPECT_FALSE(got.calls.empty()) << name;
    for (const ToolCall& call : got.calls) EXPECT_TRUE(json::parse(call.arguments).is_object()) << name;
    EXPECT_EQ(got.text, "");
  }
}

TEST(ToolCallGrammar, OneFunctionOrOneCallWhereThatIsAskedFor) {
  const std::string time = "<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
  const std::string weather = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"\"}}\n</tool_call>";
  ToolUse use = weather_and_time();
  EXPECT_TRUE(fits(*tool_call_grammar(generic_tool_form(), use, false), time + "\n" + weather));
  use.parallel = false;
  EXPECT_FALSE(fits(*tool_call_grammar(generic_tool_form(), use, false), time + "\n" + weather));
  use.only = "weather";
  EXPECT_FALSE(fits(*tool_call_grammar(generic_tool_form(), use, false), time));
  EXPECT_TRUE(fits(*tool_call_grammar(generic_tool_form(), use, false), weather));
  // The mark has been read by the model.
  EXPECT_TRUE(fits(*tool_call_grammar(form_named("mistral"), use, true),
                   R"([{"name": "weather", "arguments": {"city": ""}}])"));
}

TEST(ToolCallGrammar, ATextOfItsOwnMayStandInstead) {
  const auto content = formats::grammar_of_json_schema(
      R"({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]})", {});
  ASSERT_TRUE(content);
  const auto grammar = tool_call_or_content_grammar(generic_tool_form(), weather_and_time(), *content);
  ASSERT_TRUE(grammar);
  EXPECT_TRUE(fits(*grammar, R"({"a": 1})"));
  EXPECT_FALSE(fits(*grammar, R"({"a": 2})"));
  EXPECT_TRUE(fits(*grammar, "<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>"));
}

TEST(ToolCallGrammar, ReferencesStayWithinTheirFunction) {
  ToolUse use;
  use.tools = {
      {"a", "",
       R"({"type": "object", "properties": {"x": {"$ref": "#/$defs/k"}}, "required": ["x"], "$defs": {"k": {"const": 1}}})"},
      {"b", "",
       R"({"type": "object", "properties": {"x": {"$ref": "#/$defs/k"}}, "required": ["x"], "$defs": {"k": {"const": 2}}})"}};
  for (const char* name : {"hermes", "qwen3-coder"}) {
    const auto grammar = tool_call_grammar(form_named(name), use, false);
    ASSERT_TRUE(grammar) << grammar.error().message;
    const auto text = [&](const char* function, int x) {
      const std::string call =
          std::string(name) == "hermes"
              ? "{\"name\": \"" + std::string(function) + "\", \"arguments\": {\"x\": " + std::to_string(x) + "}}"
              : "<function=" + std::string(function) + ">\n<parameter=x>\n" + std::to_string(x) +
                    "\n</parameter>\n</function>";
      return "<tool_call>\n" + call + "\n</tool_call>";
    };
    EXPECT_TRUE(fits(*grammar, text("a", 1))) << name;
    EXPECT_TRUE(fits(*grammar, text("b", 2))) << name;
    EXPECT_FALSE(fits(*grammar, text("a", 2))) << name;
  }
}

TEST(ToolCallGrammar, ArgumentsAreObjects) {
  ToolUse use;
  use.tools = {{"f", "", R"({"anyOf": [{"properties": {"x": {"const": 1}}, "required": ["x"]}, {"type": "string"}]})"}};
  const auto grammar = tool_call_grammar(generic_tool_form(), use, false);
  ASSERT_TRUE(grammar) << grammar.error().message;
  EXPECT_TRUE(fits(*grammar, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>"));
  EXPECT_FALSE(fits(*grammar, "<tool_call>\n{\"name\": \"f\", \"arguments\": \"x\"}\n</tool_call>"));
  use.tools[0].parameters = R"({"type": "string"})";
  EXPECT_FALSE(tool_call_grammar(generic_tool_form(), use, false));
}

TEST(ToolCallGrammar, WhatCannotBeKeptIsNamed) {
  ToolUse use;
  use.tools = {{"f", "", R"({"type": "object", "properties": {"x": {"type": "array", "uniqueItems": true}}})"}};
  const auto json_form = tool_call_grammar(generic_tool_form(), use, false);
  ASSERT_FALSE(json_form);
  EXPECT_NE(json_form.error().message.find("\"f\""), std::string::npos);
  EXPECT_NE(json_form.error().message.find("uniqueItems"), std::string::npos);
  use.tools[0].parameters = R"({"type": "object", "properties": {"x": {"type": "string", "pattern": "a"}}})";
  EXPECT_TRUE(tool_call_grammar(generic_tool_form(), use, false));
  const auto xml = tool_call_grammar(form_named("qwen3-coder"), use, false);
  ASSERT_FALSE(xml);
  EXPECT_NE(xml.error().message.find("pattern"), std::string::npos);
}

}  // namespace
}  // namespace krait::server
