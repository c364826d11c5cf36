// The language of chat templates where goldens do not reach, and what a request is turned into before it is rendered.
// Expected texts are Python's.
#include "krait/formats/chat_template.h"

#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "tests/formats/error_expectation.h"

namespace krait::formats {
namespace {

std::string render(std::string_view text, std::string_view context = "{}") {
  const auto parsed = ChatTemplate::parse(text, "t.jinja");
  EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
  const auto variables = ChatContext::parse(context);
  EXPECT_TRUE(variables.has_value()) << variables.error().message;
  if (!parsed || !variables) return "no template";
  const auto out = parsed->render(*variables);
  return out ? *out : out.error().message;
}

TEST(ChatTemplate, WhiteSpaceRoundStatements) {
  EXPECT_EQ(render("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
  EXPECT_EQ(render("a\n  {{ 1 }}\n  b\n\n"), "a\n  1\n  b\n");
  EXPECT_EQ(render("a \n {%- if true -%} \n b {%- endif %} c"), "ab c");
  EXPECT_EQ(render("  {%+ if true +%}\nb{% endif %}"), "  \nb");
  EXPECT_EQ(render("x {% if true %} y{% endif %}"), "x  y");
  EXPECT_EQ(render("a\r\nb\rc{# note #}\nd"), "a\nb\ncd");
  EXPECT_EQ(render("a {#- note -#} b"), "ab");
  EXPECT_EQ(render("{{ '}}' }}{{ {'a': {'b': 1}}['a']['b'] }}"), "}}1");
  EXPECT_EQ(render("{% raw %}{{ a }}{% endraw %}"), "{{ a }}");
  EXPECT_EQ(render("a { b {"), "a { b {");
}

TEST(ChatTemplate, ScopesAreThoseOfJinja) {
  EXPECT_EQ(render("{% set a = 1 %}{% for i in [1, 2] %}{{ a }}{% set a = 5 %}{{ a }}{% endfor %}{{ a }}"), "15151");
  EXPECT_EQ(render("{% if true %}{% set a = 1 %}{% endif %}{{ a }}"), "1");
  EXPECT_EQ(render("{% macro f() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}"), "1");
  EXPECT_EQ(render("{% with a = 1 %}{{ a }}{% endwith %}{{ a }}"), "1");
  EXPECT_EQ(render("{% for x in [1, 2] %}{{ loop.index }}{% for y in 'ab' %}{{ loop.index }}{% endfor %}{% endfor %}"),
            "112212");
  EXPECT_EQ(render("{% macro f(a, b=a ~ '!') %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(b=2, a=3) }}"), "11!32");
  EXPECT_EQ(render("a{% generation %}b{% endgeneration %}c"), "abc");
}

TEST(ChatTemplate, Loops) {
  EXPECT_EQ(render("{% for i in [1, 2, 3, 4] if i is even %}{{ i }}{{ loop.length }}{{ loop.last }};{% endfor %}"),
            "22False;42True;");
  EXPECT_EQ(render("{% for i in [] %}x{% else %}none{% endfor %}"), "none");
  EXPECT_EQ(render("{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}"
                   "{% endif %}{{ i }}{% endfor %}"),
            "02");
  EXPECT_EQ(render("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}"), "a1b2");
  EXPECT_EQ(render("{% for i in 'abc' %}{{ loop.previtem }}{{ loop.cycle('-', '+') }}{{ loop.nextitem }}{% endfor %}"),
            "-ba+cb-");
  EXPECT_EQ(render("{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}"), "TrueFalseTrue");
}

TEST(ChatTemplate, MethodsComeBeforeKeysAsAttributesAndAfterThemAsItems) {
  EXPECT_EQ(render("{{ d['items'] }}{{ d.other }}{% for k, v in d.items() %}{{ k }}{% endfor %}",
                   R"({"d": {"items": 7, "other": 8}})"),
            "78itemsother");
}

TEST(ChatTemplate, PythonsSpelling) {
  EXPECT_EQ(render("{{ a }}", R"({"a": [1.0, 1e16, 1e-5, 123456789.5, -0.0, 12345678901234567890]})"),
            "[1.0, 1e+16, 1e-05, 123456789.5, -0.0, 1.2345678901234567e+19]");
  EXPECT_EQ(render("{{ a }}", R"({"a": ["\n\u0001\u00e9\u200b'", "\"'"]})"), "[\"\\n\\x01é\\u200b'\", '\"\\'']");
  EXPECT_EQ(render("{{ a | tojson }}", R"({"a": {"x": "é\"\\\n\u0001\u007f</", "y": [1.0, null, true], "z": {}}})"),
            "{\"x\": \"é\\\"\\\\\\n\\u0001\x7f</\", \"y\": [1.0, null, true], \"z\": {}}");
  EXPECT_EQ(render("{{ a | tojson(ensure_ascii=true) }}", R"({"a": "é😀"})"), R"("\u00e9\ud83d\ude00")");
  EXPECT_EQ(render("{{ {'b': 1, 'a': [1, {}]} | tojson(sort_keys=true, indent=1) }}"),
            "{\n \"a\": [\n  1,\n  {}\n ],\n \"b\": 1\n}");
  EXPECT_EQ(render("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':')) }}"), R"({"b":1,"a":2})");
  EXPECT_EQ(render("{{ 'straße ünd' | upper }} {{ 'ÀB' | lower }} {{ 'ßa' | capitalize }} {{ \"it's a\".title() }}"),
            "STRASSE ÜND àb Ssa It'S A");
  EXPECT_EQ(render("{{ '\\u00a0 x\\t' | trim }}|{{ 'xxaxx'.strip('x') }}|{{ 'a\\nb' | indent(2, true) }}"),
            "x|a|  a\n  b");
  EXPECT_EQ(render("{{ '\\x41\\u00e9\\101\\q' }}"), "AéA\\q");
}

TEST(ChatTemplate, TestsOfKind) {
  EXPECT_EQ(render("{% for x in [1, 1.5, true, none, 'a', [1], {}] %}{{ x is number }} {{ x is integer }} "
                   "{{ x is string }} {{ x is mapping }} {{ x is iterable }} {{ x is sequence }} {{ x is none }} "
                   "{{ x is boolean }};{% endfor %}"),
            "True True False False False False False False;True False False False False False False False;"
            "True False False False False False False True;False False False False False False True False;"
            "False False True False True True False False;False False False False True True False False;"
            "False False False True True True False False;");
  EXPECT_EQ(render("{{ 6 is divisibleby 3 }} {{ 1 is in [1] }} {{ 'a' is eq 'a' }} {{ x is not defined }}"),
            "True True True True");
}

TEST(ChatTemplate, FiltersOverLists) {
  const char* context = R"({"m": [{"role": "user", "f": {"n": "B"}}, {"role": "tool", "f": {"n": "a"}}, {"f": {}}]})";
  EXPECT_EQ(render("{{ m | selectattr('role', 'defined') | map(attribute='f.n') | join(',') }}", context), "B,a");
  EXPECT_EQ(render("{{ m | rejectattr('role', 'eq', 'tool') | list | length }}", context), "2");
  EXPECT_EQ(render("{{ m | selectattr('role') | sort(attribute='f.n') | map(attribute='role') | list }}", context),
            "['tool', 'user']");
  EXPECT_EQ(render("{{ m | map(attribute='role', default='?') | join }}", context), "usertool?");
  EXPECT_EQ(render("{{ [3, 1, 2] | select('gt', 1) | list }}{{ ['a', 'A', 'b'] | unique | list }}"),
            "[3, 2]['a', 'b']");
  EXPECT_EQ(render("{{ none | selectattr('x') | list }}{{ none | map('upper') | list }}"), "[][]");
  EXPECT_EQ(
      render("{{ [1, 2] | max }}{{ [] | first is defined }}{{ 'abc' | reverse }}{{ ['x'] | map('upper') | first }}"),
      "2FalsecbaX");
}

TEST(ChatTemplate, Time) {
  const auto parsed = ChatTemplate::parse("{{ strftime_now('%d %b %Y') }}", "t");
  ASSERT_TRUE(parsed.has_value());
  // The middle of a day, so that every time zone but a few has it.
  EXPECT_EQ(parsed->render(ChatContext(), {}, std::time_t{1'719'835'200}).value(), "01 Jul 2024");
}

TEST(ChatTemplate, SaysWhichVariablesItReads) {
  const auto parsed =
      ChatTemplate::parse("{% for m in messages %}{% if m.x %}{{ f(tools) }}{% endif %}{% endfor %}", "t");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->reads("messages"));
  EXPECT_TRUE(parsed->reads("tools"));
  EXPECT_FALSE(parsed->reads("documents"));
  EXPECT_FALSE(parsed->reads("x"));
  EXPECT_EQ(parsed->source(), "{% for m in messages %}{% if m.x %}{{ f(tools) }}{% endif %}{% endfor %}");
}

TEST(ChatContext, HasTheVariablesOfTransformers) {
  EXPECT_EQ(render("{{ messages }}{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ tools is defined }}"),
            "[]NoneNoneFalseTrue");
}

TEST(ChatContext, UnpacksArgumentsThatAreTextAndJoinsParts) {
  auto context = ChatContext::parse(R"({"messages": [
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
      {"role": "assistant", "content": null, "tool_calls": [
        {"function": {"name": "f", "arguments": "{\"z\": 1, \"a\": [2]}"}},
        {"function": {"name": "g", "arguments": "not json"}}, {"name": "h", "arguments": "{}"}]}]})");
  ASSERT_TRUE(context.has_value()) << context.error().message;
  context->unpack_tool_arguments();
  context->join_text_parts();
  const auto parsed = ChatTemplate::parse("{{ messages | tojson }}", "t");
  EXPECT_EQ(parsed->render(*context).value(),
            R"([{"role": "user", "content": "a\nb"}, )"
            R"({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}, )"
            R"({"role": "assistant", "content": null, "tool_calls": [)"
            R"({"function": {"name": "f", "arguments": {"z": 1, "a": [2]}}}, )"
            R"({"function": {"name": "g", "arguments": "not json"}}, {"name": "h", "arguments": {}}]}])");
}

TEST(ChatContext, RefusesWhatIsNoContext) {
  tests::expect_error(ChatContext::parse("[]"), ErrorCode::kInvalidArgument, {"the context is a list"});
  tests::expect_error(ChatContext::parse("{\"messages\": ["), ErrorCode::kInvalidArgument, {"is not JSON at byte"});
  tests::expect_error(ChatContext::parse(std::string(100, '[')), ErrorCode::kInvalidArgument,
                      {"nested deeper than 64"});
  ChatContext context;
  tests::expect_error(context.set_text("bos_token", "a\xFF"), ErrorCode::kInvalidArgument,
                      {"bos_token is not UTF-8 at byte 1"});
  tests::expect_error(context.set_json("tools", "{"), ErrorCode::kInvalidArgument, {"tools is not JSON"});
}

}  // namespace
}  // namespace krait::formats
