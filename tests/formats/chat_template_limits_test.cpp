// Templates and conversations that ask for too much, or make no sense, end in an error that says what and where.
#include <gtest/gtest.h>

#include <string>

#include "krait/formats/chat_template.h"
#include "tests/formats/error_expectation.h"

namespace krait::formats {
namespace {

Result<std::string> render(std::string_view text, const ChatTemplateLimits& limits = {}) {
  KRAIT_ASSIGN(const ChatTemplate parsed, ChatTemplate::parse(text, "t.jinja"));
  return parsed.render(ChatContext(), limits);
}

std::string repeat(std::string_view text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(ChatTemplateLimits, NestingOfTheTemplate) {
  for (const auto& [open, middle, close] :
       {std::tuple{"(", "1", ")"}, {"[", "1", "]"}, {"not ", "1", ""}, {"-", "1", ""}, {"{1:", "2", "}"}}) {
    const std::string text = "{{ " + repeat(open, 5000) + middle + repeat(close, 5000) + " }}";
    tests::expect_error(render(text), ErrorCode::kCorrupt, {"nested deeper than 100"});
  }
  tests::expect_error(render("{{ a" + repeat(" + a", 5000) + " }}"), ErrorCode::kCorrupt, {"200 levels"});
  tests::expect_error(render("{{ a" + repeat("|trim", 5000) + " }}"), ErrorCode::kCorrupt, {"200 levels"});
  tests::expect_error(render("{{ a" + repeat(".b", 5000) + " }}"), ErrorCode::kCorrupt, {"200 levels"});
  tests::expect_error(render(repeat("{% if a %}", 5000)), ErrorCode::kCorrupt, {"nested deeper than 100"});
  EXPECT_TRUE(render("{{ '' " + repeat("~ 'a'", 150) + " }}").has_value());
}

TEST(ChatTemplateLimits, DepthOfMacros) {
  tests::expect_error(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), ErrorCode::kResourceExhausted,
                      {"nested"});
}

TEST(ChatTemplateLimits, DepthOfValues) {
  tests::expect_error(
      render("{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}"),
      ErrorCode::kResourceExhausted, {"nested deeper than 100"});
}

TEST(ChatTemplateLimits, Steps) {
  const ChatTemplateLimits few{.steps = 10'000};
  for (const char* text :
       {"{% for i in range(1000000000) %}{% endfor %}",
        "{% for i in range(100) %}{% for j in range(100) %}{{ j }}{% endfor %}{% endfor %}", "{{ 'x' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}"
        "{{ ns.a | tojson }}",
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
        "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}"}) {
    tests::expect_error(render(text, few), ErrorCode::kResourceExhausted, {"10000 steps"});
  }
}

TEST(ChatTemplateLimits, Output) {
  const ChatTemplateLimits small{.output_bytes = 1000};
  EXPECT_TRUE(render("{% for i in range(100) %}0123456789{% endfor %}", small).has_value());
  tests::expect_error(render("{% for i in range(101) %}0123456789{% endfor %}", small), ErrorCode::kResourceExhausted,
                      {"1000 bytes"});
}

TEST(ChatTemplateLimits, NothingHoldsItself) {
  tests::expect_error(render("{% set ns = namespace() %}{% set ns.a = ns %}"), ErrorCode::kInvalidArgument,
                      {"namespace"});
  tests::expect_error(render("{% set ns = namespace() %}{% set ns.a = [ns] %}"), ErrorCode::kInvalidArgument,
                      {"namespace"});
  tests::expect_error(render("{% macro f() %}{% endmacro %}{{ [f] }}"), ErrorCode::kInvalidArgument, {"macro"});
  tests::expect_error(render("{% for i in [1] %}{{ {'a': loop} }}{% endfor %}"), ErrorCode::kInvalidArgument, {"loop"});
}

TEST(ChatTemplateLimits, NumbersPastSixtyFourBits) {
  for (const char* text : {"{{ 9223372036854775807 + 1 }}", "{{ 2 ** 64 }}", "{{ -9223372036854775807 - 2 }}",
                           "{{ 9223372036854775807 * 2 }}", "{{ (-9223372036854775807 - 1) // -1 }}"}) {
    tests::expect_error(render(text), ErrorCode::kInvalidArgument, {"64 bits"});
  }
  tests::expect_error(render("{{ 99999999999999999999 }}"), ErrorCode::kCorrupt, {"out of range"});
  EXPECT_EQ(render("{{ 'ab'[9223372036854775807] }}{{ [1, 2][::9223372036854775807] }}").value(), "[1]");
  EXPECT_EQ(render("{{ 'abc'[-9223372036854775807:2] }}").value(), "ab");
}

TEST(ChatTemplateLimits, ErrorsNameTemplateLineAndCause) {
  struct Case {
    const char* text;
    ErrorCode code;
    const char* message;
  };
  for (const Case& one : std::initializer_list<Case>{
           {"a\nb\n{{ 1 +", ErrorCode::kCorrupt, "line 3: \"}}\" is missing (t.jinja)"},
           {"\n{% if a %}", ErrorCode::kCorrupt, "the end of the template where {% endif %} should stand"},
           {"{% endif %}", ErrorCode::kUnsupported, "\"endif\""},
           {"{% include 'x' %}", ErrorCode::kUnsupported, "line 1: the statement \"include\" is not supported"},
           {"{% break %}", ErrorCode::kCorrupt, "outside a loop"},
           {"{{ 'a }}", ErrorCode::kCorrupt, "a string is not closed"},
           {"{# a", ErrorCode::kCorrupt, "a comment is not closed"},
           {"{% raw %}", ErrorCode::kCorrupt, "a raw block is not closed"},
           {"{{ ( ] }}", ErrorCode::kCorrupt, "unexpected \"]\""},
           {"{{ a ! }}", ErrorCode::kCorrupt, "unexpected character '!'"},
           {"{{ a b }}", ErrorCode::kCorrupt, "\"b\" where \"}}\" should stand"},
           {"\xFF", ErrorCode::kCorrupt, "not UTF-8 at byte 0"},
           {"\n\n{{ a.b.c }}", ErrorCode::kInvalidArgument, "line 3: 'a' is undefined (t.jinja)"},
           {"{{ messages.x.y }}", ErrorCode::kInvalidArgument, "a list has no attribute 'x'"},
           {"{{ a() }}", ErrorCode::kInvalidArgument, "'a' is undefined"},
           {"{{ 1 + 'a' }}", ErrorCode::kInvalidArgument, "+ is not defined between a integer and a string"},
           {"{{ 1 / 0 }}", ErrorCode::kInvalidArgument, "division by zero"},
           {"{{ 'a' | what }}", ErrorCode::kUnsupported, "the filter \"what\""},
           {"{{ 'a' is what }}", ErrorCode::kUnsupported, "the test \"what\""},
           {"{{ a | tojson }}", ErrorCode::kInvalidArgument, "'a' is undefined"},
           {"{{ 'a'.strip(1, 2) }}", ErrorCode::kInvalidArgument, "strip takes 1 arguments, not 2"},
           {"{{ 'a' | join(x=1) }}", ErrorCode::kInvalidArgument, "join has no parameter \"x\""},
           {"{{ messages.append(1) }}", ErrorCode::kInvalidArgument, "a list has no attribute 'append'"},
           {"{% for a, b in [[1]] %}{% endfor %}", ErrorCode::kInvalidArgument, "1 values for the 2 names"},
           {"\n{{ raise_exception('no tools') }}", ErrorCode::kInvalidArgument,
            "line 2: the template refuses the conversation: no tools (t.jinja)"}}) {
    SCOPED_TRACE(one.text);
    tests::expect_error(render(one.text), one.code, {one.message});
  }
}

}  // namespace
}  // namespace krait::formats
