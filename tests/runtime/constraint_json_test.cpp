// JSON under constraints: what random walks under the masks write is parsed by a JSON library and judged by a validator
// that knows nothing of grammars; what they must take and must not take, by hand.
#include <gtest/gtest.h>

#include <filesystem>

#include "krait/formats/json_schema.h"
#include "tests/runtime/constraint_walk.h"
#include "tests/runtime/json_schema_samples.h"
#include "tests/runtime/json_schema_validator.h"

namespace krait::tests {
namespace {

using formats::grammar_of_json_object;
using formats::grammar_of_json_schema;
using formats::JsonSchemaOptions;
using formats::JsonSpace;

formats::Grammar schema(std::string_view text, JsonSpace space = JsonSpace::kOne) {
  auto grammar = grammar_of_json_schema(text, {.space = space});
  if (!grammar) throw std::runtime_error(grammar.error().message);
  return *std::move(grammar);
}

std::shared_ptr<const Constraint> constraint_of(std::string_view text, JsonSpace space = JsonSpace::kOne) {
  return compiled(schema(text, space), byte_vocabulary());
}

struct Bundled {
  std::shared_ptr<const ConstraintVocabulary> vocabulary;
  TokenId end = 0;
};

const Bundled& bundled() {
  static const Bundled made = [] {
    const auto path = std::filesystem::path(KRAIT_SOURCE_DIR) / "models" / "tales" / "tokenizer.json";
    const auto tokenizer = formats::open_tokenizer(path);
    if (!tokenizer) throw std::runtime_error(tokenizer.error().message);
    return Bundled{ConstraintVocabulary::of(**tokenizer), (*tokenizer)->token_to_id("<|endoftext|>").value()};
  }();
  return made;
}

void judge(const std::string& text_of_schema, const std::shared_ptr<const Constraint>& constraint, TokenId end,
           std::uint64_t seeds) {
  const JsonSchemaValidator validator(nlohmann::json::parse(text_of_schema));
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const auto text = random_text(constraint, end, seed, static_cast<int>(20 + seed * 10));
    ASSERT_TRUE(text.has_value()) << "under " << text_of_schema;
    const auto value = nlohmann::json::parse(*text, nullptr, false);
    ASSERT_FALSE(value.is_discarded()) << *text << "\nunder " << text_of_schema;
    ASSERT_EQ(validator.complaint(value), "") << *text << "\nunder " << text_of_schema;
  }
}

TEST(ConstraintJson, WhatTheBundledTokenizerWritesIsValid) {
  for (const std::string& sample : json_schema_samples()) {
    judge(sample, compiled(schema(sample), bundled().vocabulary, bundled().end), bundled().end, 30);
  }
}

TEST(ConstraintJson, WhatSmallVocabulariesWriteIsValid) {
  // Tokens across every border: of strings, members, brackets, characters.
  const auto vocabulary =
      byte_vocabulary({"{\"", "\":",  "\",",  "\"}", "\"]",  "}}",   "]}",     "},{",   "\\u", "\\\"", "\\\\",
                       "00",  "null", "true", ": ",  ", \"", "\xC3", "\xA9\"", "\\ud8", "-1",  "0.",   "e9"});
  for (const std::string& sample : json_schema_samples()) {
    judge(sample, compiled(schema(sample, JsonSpace::kNone), vocabulary), last_token(*vocabulary), 30);
  }
}

TEST(ConstraintJson, AnyObjectIsJson) {
  const auto constraint = compiled(grammar_of_json_object({}), bundled().vocabulary, bundled().end);
  std::size_t longest = 0, braces = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const auto text = random_text(constraint, bundled().end, seed, 100);
    ASSERT_TRUE(text.has_value());
    ASSERT_TRUE(nlohmann::json::parse(*text, nullptr, false).is_object()) << *text;
    longest = std::max(longest, text->size());
    braces += static_cast<std::size_t>(std::ranges::count(*text, '{'));
  }
  // The walks go somewhere: into strings, and into objects in objects.
  EXPECT_GT(longest, 100U);
  EXPECT_GT(braces, 350U);
}

TEST(ConstraintJson, TakesWhatPeopleWrite) {
  const auto object = compiled(grammar_of_json_object({}), byte_vocabulary());
  EXPECT_TRUE(takes(object, R"({"a": 1, "b": [1.5e3, -0, {"c": null}], "é😀": "\u00e9\ud83d\ude00\n\/"})"));
  EXPECT_TRUE(takes(object, "{}"));
  EXPECT_TRUE(takes(object, "{\n\"a\":\n1\n}"));
  for (const char* wrong : {"[]", "1", "{\"a\"}", "{\"a\":1,}", "{\"a\":01}", "{\"a\":\"\n\"}", "{\"a\":\"\\ud83d\"}",
                            "{\"a\":\"\\x\"}", "{\"a\":1.}", "{a:1}", "{\"a\":1}}", "{\"a\":  1}"}) {
    EXPECT_FALSE(takes(object, wrong)) << wrong;
  }
}

TEST(ConstraintJson, CompactMeansNoWhiteSpace) {
  const auto compact = constraint_of(R"({"properties": {"a": {"type": "array"}}})", JsonSpace::kNone);
  EXPECT_TRUE(takes(compact, "{\"a\":[1,2]}"));
  EXPECT_FALSE(takes(compact, "{\"a\": [1,2]}"));
  EXPECT_FALSE(takes(compact, "{\"a\":[1, 2]}"));
}

TEST(ConstraintJson, PropertiesStandInTheSchemasOrder) {
  const auto ordered =
      constraint_of(R"({"properties": {"z": {"const": 1}, "a": {"const": 2}, "m": {"const": 3}}, "required": ["a"]})");
  EXPECT_TRUE(takes(ordered, R"({"z":1,"a":2,"m":3})"));
  EXPECT_TRUE(takes(ordered, R"({"a":2,"m":3})"));
  EXPECT_TRUE(takes(ordered, R"({"z":1,"a":2})"));
  EXPECT_TRUE(takes(ordered, R"({"a":2})"));
  for (const char* wrong : {R"({"a":2,"z":1})", R"({})", R"({"z":1,"m":3})", R"({"a":2,"a":2})", R"({"a":2,"x":1})"}) {
    EXPECT_FALSE(takes(ordered, wrong)) << wrong;
  }
}

TEST(ConstraintJson, UnnamedPropertiesAreNeverNamedOnes) {
  const auto open = constraint_of(
      R"({"properties": {"ab": {"type": "integer"}, "a\"": {"type": "integer"}}, "additionalProperties": {"type": "null"}})");
  EXPECT_TRUE(takes(open, R"({"ab":1,"a":null,"abc":null,"":null,"b":null})"));
  EXPECT_FALSE(takes(open, R"({"a":null,"ab":1})"));  // the named ones come first
  EXPECT_FALSE(takes(open, R"({"ab":null})"));
  EXPECT_FALSE(takes(open, R"({"\u0061b":null})"));
  EXPECT_FALSE(takes(open, R"({"a\"":null})"));
}

// Every integer near the bounds, on both sides.
TEST(ConstraintJson, IntegersKeepTheirBounds) {
  Random random(29);
  for (int i = 0; i < 200; ++i) {
    const auto draw = [&] { return static_cast<std::int64_t>(random.next() % 3000) - 1500; };
    std::int64_t low = draw(), high = draw();
    if (low > high) std::swap(low, high);
    const bool excludes = random.next() % 2 == 0 && high - low > 1;
    const auto constraint = constraint_of(
        nlohmann::json{{"type", "integer"}, {"minimum", low}, {excludes ? "exclusiveMaximum" : "maximum", high}}
            .dump());
    for (std::int64_t value = -1600; value <= 1600; value += 1 + static_cast<std::int64_t>(random.next() % 7)) {
      const bool expected = low <= value && (excludes ? value < high : value <= high);
      ASSERT_EQ(takes(constraint, std::to_string(value)), expected) << value << " in " << low << " … " << high;
    }
    for (const std::int64_t value : {low - 1, low, high, high + 1}) {
      const bool expected = low <= value && (excludes ? value < high : value <= high);
      ASSERT_EQ(takes(constraint, std::to_string(value)), expected) << value << " in " << low << " … " << high;
    }
  }
}

// Thousandths between bounds with up to three places, compared in whole thousandths.
TEST(ConstraintJson, NumbersKeepTheirBounds) {
  Random random(31);
  const auto spelled = [](std::int64_t thousandths) {
    const std::int64_t size = std::abs(thousandths);
    std::string text = fmt::format("{}{}.{:03}", thousandths < 0 ? "-" : "", size / 1000, size % 1000);
    return text;
  };
  for (int i = 0; i < 200; ++i) {
    const auto draw = [&] { return static_cast<std::int64_t>(random.next() % 30000) - 15000; };
    std::int64_t low = draw(), high = draw();
    if (low > high) std::swap(low, high);
    const bool excludes = random.next() % 2 == 0 && high - low > 1;
    const auto constraint = constraint_of(fmt::format(R"({{"type": "number", "{}": {}, "{}": {}}})",
                                                      excludes ? "exclusiveMinimum" : "minimum", spelled(low),
                                                      excludes ? "exclusiveMaximum" : "maximum", spelled(high)));
    const auto compare = [&](std::int64_t value) {
      const bool expected = excludes ? low < value && value < high : low <= value && value <= high;
      ASSERT_EQ(takes(constraint, spelled(value)), expected)
          << spelled(value) << " in " << spelled(low) << " … " << spelled(high);
    };
    for (const std::int64_t value : {low - 1, low, low + 1, high - 1, high, high + 1}) {
      if (value != 0) compare(value);
    }
    for (int j = 0; j < 100; ++j) {
      const std::int64_t value = draw();
      if (value != 0) compare(value);
    }
  }
}

TEST(ConstraintJson, LengthsCountCharacters) {
  const auto three = constraint_of(R"({"type": "string", "minLength": 3, "maxLength": 3})");
  EXPECT_TRUE(takes(three, "\"aé😀\""));
  EXPECT_TRUE(takes(three, R"("\n\u00e9\ud83d\ude00")"));
  EXPECT_FALSE(takes(three, "\"ab\""));
  EXPECT_FALSE(takes(three, "\"abcd\""));
}

TEST(ConstraintJson, PatternsFindAndSpeakJson) {
  const auto pattern = constraint_of(R"({"type": "string", "pattern": "a[\"\\\\\\n]"})");
  EXPECT_TRUE(takes(pattern, R"("xa\"y")"));
  EXPECT_TRUE(takes(pattern, R"("a\\")"));
  EXPECT_TRUE(takes(pattern, R"("a\n")"));
  EXPECT_FALSE(takes(pattern, R"("ab")"));
}

TEST(ConstraintJson, DatesHaveTheDaysOfTheirMonth) {
  const auto date = constraint_of(R"({"type": "string", "format": "date"})");
  for (const char* right : {"2024-02-29", "2000-02-29", "2023-02-28", "2023-04-30", "2023-12-31"}) {
    EXPECT_TRUE(takes(date, fmt::format("\"{}\"", right))) << right;
  }
  for (const char* wrong : {"2023-02-29", "1900-02-29", "2023-04-31", "2023-13-01", "2023-00-10", "2023-01-00"}) {
    EXPECT_FALSE(takes(date, fmt::format("\"{}\"", wrong))) << wrong;
  }
}

TEST(ConstraintJson, NestingEndsInTime) {
  const auto object = compiled(grammar_of_json_object({}), byte_vocabulary());
  ConstraintMatcher matcher(object);
  int levels = 0;
  while (matcher.accept_bytes("{\"\":")) ++levels;
  EXPECT_EQ(levels, runtime::ConstraintProgram::kMaximumLevels);
  // One value more, and the way back.
  ASSERT_TRUE(matcher.accept_bytes("0"));
  while (levels-- > 0) ASSERT_TRUE(matcher.accept_bytes("}"));
  EXPECT_TRUE(matcher.must_end());
}

TEST(ConstraintJson, AmbiguityDoesNotMultiply) {
  // Until the end of an object nothing tells the two branches apart: there are 2^n readings of n levels.
  const auto constraint = constraint_of(
      R"({"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}, "b": {"const": 1}}}]})");
  ConstraintMatcher matcher(constraint);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(matcher.accept_bytes("{\"a\":"));
  ASSERT_TRUE(matcher.accept_bytes("{}"));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(matcher.accept_bytes(i % 2 == 0 ? "}" : ",\"b\":1}"));
  EXPECT_TRUE(matcher.must_end());
  EXPECT_LT(constraint->work().configurations, 2000);
}

std::string message_of(std::string_view text) {
  const auto grammar = grammar_of_json_schema(text, {});
  if (!grammar) return grammar.error().message;
  const auto constraint = Constraint::compile(*grammar, byte_vocabulary(), {256});
  return constraint ? "taken" : constraint.error().message;
}

TEST(ConstraintJson, RefusesByNameWhatAGrammarCannotKeep) {
  for (const char* keyword : {"not", "if", "patternProperties", "dependentRequired", "contains",
                              "unevaluatedProperties", "$dynamicRef", "frobnicate"}) {
    EXPECT_NE(message_of(nlohmann::json{{"properties", {{"p", {{keyword, true}}}}}}.dump()).find(keyword),
              std::string::npos)
        << keyword;
  }
  const std::pair<const char*, const char*> refusals[] = {
      {R"({"type": "array", "uniqueItems": true})", "uniqueItems"},
      {R"({"type": "integer", "multipleOf": 3})", "multipleOf"},
      {R"({"type": "string", "format": "iri"})", "iri"},
      {R"({"type": "string", "pattern": "a", "minLength": 3})", "more than one"},
      {R"x({"type": "string", "pattern": "(?=a)"})x", "lookahead"},
      {R"({"$ref": "other.json"})", "outside"},
      {R"({"$ref": "#/$defs/x"})", "not there"},
      {R"({"$ref": "#"})", "itself"},
      {R"({"anyOf": [{"$ref": "#"}, {"type": "null"}]})", "itself"},
      {R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "no text can match"},
      {R"({"allOf": [{"type": "string"}, {"type": "null"}]})", "no text can match"},
      {R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})", "two different"},
      {R"({"allOf": [{"additionalProperties": false}, {"properties": {"a": {}}}]})", "additionalProperties"},
      {R"({"type": "strin"})", "strin"},
      {R"({"type": "integer", "minimum": "3"})", "minimum"},
      {R"({"type": "integer", "minimum": 3, "maximum": 2})", "no text can match"},
      {R"({"type": "number", "minimum": 0.1234567890123456789})", "digits"},
      {R"({"type": "string", "maxLength": 1e9})", "limit"},
      {R"({"type": "string", "minLength": 60000, "maxLength": 60000})", "taken"},
      {R"({"type": "array", "items": {"type": "string", "maxLength": 60000}, "minItems": 60000})", "more than"},
      {R"({"enum": []})", "enum"},
      {R"({"type": "string", "enum": [1]})", "enum"},
      {R"({"type": "object", "minProperties": 3})", "minProperties"},
      {"{", "not JSON"},
      {"3", "neither"},
      {R"({"const": 1e999})", "number"}};
  for (const auto& [text, word] : refusals) {
    EXPECT_NE(message_of(text).find(word), std::string::npos) << text << ": " << message_of(text);
  }
  EXPECT_NE(message_of(std::string(100'000, '[')).find("deeper"), std::string::npos);
}

TEST(ConstraintJson, SchemasThatUnfoldAreBounded) {
  nlohmann::json text;
  // Each definition merges the next one twice: 2^40 schemas.
  for (int i = 0; i < 40; ++i) {
    const auto next = nlohmann::json{{"$ref", fmt::format("#/$defs/d{}", i + 1)}, {"minLength", 1}};
    text["$defs"][fmt::format("d{}", i)] = {{"anyOf", {next, next}}};
  }
  text["$defs"]["d40"] = {{"type", "string"}};
  text["$ref"] = "#/$defs/d0";
  text["maxLength"] = 5;
  EXPECT_NE(message_of(text.dump()).find("unfolds"), std::string::npos) << message_of(text.dump());
}

}  // namespace
}  // namespace krait::tests
