#include "krait/formats/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/formats/error_expectation.h"

namespace krait::formats {
namespace {

using tests::expect_error;

TEST(Config, FlattensNestedObjectsWithDots) {
  KRAIT_ASSERT_VALUE(
      const Config config,
      Config::parse_json(R"({"d_model": 768, "ssm_cfg": {"layer": "Mamba2", "deep": {"x": true}}})", "config.json"));
  EXPECT_EQ(config.integer("d_model").value(), 768);
  EXPECT_EQ(config.text("ssm_cfg.layer").value(), "Mamba2");
  EXPECT_TRUE(config.boolean("ssm_cfg.deep.x").value());
  EXPECT_EQ(config.origin(), "config.json");
}

TEST(Config, AcceptsTheBareWordsThatPythonWritesForFloats) {
  KRAIT_ASSERT_VALUE(
      const Config config,
      Config::parse_json(R"({"limit": [0.0, Infinity], "low": -Infinity, "odd": NaN, "up":Infinity})", "c"));
  EXPECT_EQ(config.numbers("limit").value(), (std::vector<double>{0.0, std::numeric_limits<double>::infinity()}));
  EXPECT_EQ(config.number("low").value(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(config.number("up").value(), std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(config.number("odd").value()));
}

TEST(Config, LeavesTheseWordsAloneWithinStringsAndKeys) {
  KRAIT_ASSERT_VALUE(const Config config, Config::parse_json(R"({"NaN": "Infinity \" NaN", "b\\": "-Infinity"})", "c"));
  EXPECT_EQ(config.text("NaN").value(), "Infinity \" NaN");
  EXPECT_EQ(config.text("b\\").value(), "-Infinity");
  EXPECT_EQ(config.number("b\\").value(), -std::numeric_limits<double>::infinity());
}

TEST(Config, RefusesTheseWordsAsPartsOfOthers) {
  for (const char* text : {R"({"a": 1Infinity})", R"({"a": Infinity1})", R"({"a": xNaN})", R"({"a": 1.Infinity})",
                           R"({"a": 1e-Infinity})", R"({"a": +Infinity})", R"({"a": infinity})"}) {
    EXPECT_FALSE(Config::parse_json(text, "c").has_value()) << text;
  }
}

TEST(Config, ArraysBecomeVectorsOfTheirElements) {
  KRAIT_ASSERT_VALUE(
      const Config config,
      Config::parse_json(R"({"i": [1, -2], "d": [1, 2.5], "b": [true, false], "t": ["x", ""], "e": []})", "c"));
  EXPECT_EQ(config.integers("i").value(), (std::vector<std::int64_t>{1, -2}));
  EXPECT_EQ(config.numbers("i").value(), (std::vector<double>{1, -2}));
  EXPECT_EQ(config.numbers("d").value(), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(std::get<std::vector<bool>>(*config.find("b")), (std::vector<bool>{true, false}));
  EXPECT_EQ(config.texts("t").value(), (std::vector<std::string>{"x", ""}));
  EXPECT_TRUE(config.integers("e").value().empty());
  EXPECT_TRUE(config.numbers("e").value().empty());
  EXPECT_TRUE(config.texts("e").value().empty());
}

TEST(Config, ArraysOfOtherThingsHaveIndexedKeys) {
  KRAIT_ASSERT_VALUE(const Config config,
                     Config::parse_json(R"({"layers": [{"kind": "m"}, {"kind": "a"}], "m": [[1, 2], 7, null, ["z"]],
                                            "mixed": [1, "a"]})",
                                        "c"));
  EXPECT_EQ(config.text("layers.0.kind").value(), "m");
  EXPECT_EQ(config.text("layers.1.kind").value(), "a");
  EXPECT_EQ(config.integers("m.0").value(), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(config.integer("m.1").value(), 7);
  EXPECT_FALSE(config.has("m.2"));
  EXPECT_EQ(config.texts("m.3").value(), (std::vector<std::string>{"z"}));
  EXPECT_EQ(config.integer("mixed.0").value(), 1);
  EXPECT_EQ(config.text("mixed.1").value(), "a");
}

TEST(Config, IntegersAndWholeNumbersStandInForEachOther) {
  KRAIT_ASSERT_VALUE(const Config config,
                     Config::parse_json(R"({"i": 3, "w": 4.0, "f": 4.5, "big": 1e30, "u": 18446744073709551615,
                                            "max": 9223372036854775807, "edge": 9223372036854775808.0})",
                                        "c"));
  EXPECT_EQ(config.number("i").value(), 3.0);
  EXPECT_EQ(config.integer("w").value(), 4);
  EXPECT_EQ(config.integer("max").value(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(config.number("u").value(), 0x1p64);
  expect_error(config.integer("f"), ErrorCode::kCorrupt, {"\"f\"", "4.5", "(c)"});
  expect_error(config.integer("big"), ErrorCode::kCorrupt, {"\"big\"", "1e+30"});
  expect_error(config.integer("edge"), ErrorCode::kCorrupt, {"\"edge\""});
}

TEST(Config, MissingKeysAndWrongTypesNameKeyAndFile) {
  KRAIT_ASSERT_VALUE(const Config config,
                     Config::parse_json(R"({"null": null, "t": "x", "b": true, "a": [1.5]})", "dir/config.json"));
  expect_error(config.integer("absent"), ErrorCode::kNotFound, {"\"absent\"", "dir/config.json"});
  expect_error(config.text("null"), ErrorCode::kNotFound, {"\"null\"", "dir/config.json"});
  expect_error(config.integer("t"), ErrorCode::kCorrupt, {"\"t\"", "text", "integer", "dir/config.json"});
  expect_error(config.number("t"), ErrorCode::kCorrupt, {"\"t\"", "text", "number"});
  expect_error(config.number("b"), ErrorCode::kCorrupt, {"\"b\"", "boolean"});
  expect_error(config.boolean("t"), ErrorCode::kCorrupt, {"\"t\"", "boolean"});
  expect_error(config.text("b"), ErrorCode::kCorrupt, {"\"b\"", "text"});
  expect_error(config.integers("a"), ErrorCode::kCorrupt, {"\"a\"", "1.5"});
  expect_error(config.integers("t"), ErrorCode::kCorrupt, {"\"t\"", "array of integers"});
  expect_error(config.numbers("b"), ErrorCode::kCorrupt, {"\"b\"", "array of numbers"});
  expect_error(config.texts("a"), ErrorCode::kCorrupt, {"\"a\"", "array of texts"});
}

TEST(Config, FallbacksServeMissingKeysOnly) {
  KRAIT_ASSERT_VALUE(const Config config, Config::parse_json(R"({"null": null, "t": "x", "i": 5})", "c"));
  EXPECT_EQ(config.integer_or("absent", 7).value(), 7);
  EXPECT_EQ(config.number_or("null", 0.5).value(), 0.5);
  EXPECT_TRUE(config.boolean_or("absent", true).value());
  EXPECT_EQ(config.text_or("absent", "fallback").value(), "fallback");
  EXPECT_EQ(config.integer_or("i", 7).value(), 5);
  expect_error(config.integer_or("t", 7), ErrorCode::kCorrupt, {"\"t\""});
}

TEST(Config, RefusesWhatIsNotAnObject) {
  for (const char* text : {"[1]", "3", "\"x\"", "null", "", "[[{}]]"}) {
    EXPECT_FALSE(Config::parse_json(text, "c").has_value()) << text;
  }
  expect_error(Config::parse_json("[1]", "c.json"), ErrorCode::kCorrupt, {"not an object", "c.json"});
}

TEST(Config, RefusesTextThatIsCutShortAnywhere) {
  const std::string text = R"({"a": {"b": [1, {"c": "dé"}, -Infinity]}, "e": "\u00e9\n"})";
  ASSERT_TRUE(Config::parse_json(text, "c").has_value());
  for (std::size_t length = 0; length < text.size(); ++length) {
    expect_error(Config::parse_json(std::string(text, 0, length), "c.json"), ErrorCode::kCorrupt, {"c.json"});
  }
}

TEST(Config, RefusesNestingDeeperThan64) {
  const auto nested = [](std::size_t depth) {
    return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_TRUE(Config::parse_json(nested(64), "c").has_value());
  expect_error(Config::parse_json(nested(65), "c"), ErrorCode::kCorrupt, {"deeper than 64"});
  expect_error(Config::parse_json("{\"a\":" + std::string(1 << 20, '['), "c"), ErrorCode::kCorrupt, {"deeper than 64"});
}

TEST(Config, RefusesDoubledKeys) {
  expect_error(Config::parse_json(R"({"a": 1, "a": 2})", "c"), ErrorCode::kCorrupt, {"\"a\"", "twice"});
  expect_error(Config::parse_json(R"({"a": {"b": 1}, "a.b": 2})", "c"), ErrorCode::kCorrupt, {"\"a.b\"", "twice"});
}

TEST(Config, RefusesKeysThatMultiplyALongPrefix) {
  // 200 kB round 1000 empty arrays would flatten to 200 MB of keys.
  std::string text = "{\"" + std::string(200'000, 'k') + "\": [";
  for (int i = 0; i < 1000; ++i) text += "[],";
  text += "[]]}";
  expect_error(Config::parse_json(text, "c"), ErrorCode::kCorrupt, {"keys"});
}

TEST(Config, RefusesTextThatIsNotUtf8) {
  expect_error(Config::parse_json("{\"a\": \"\xff\"}", "c"), ErrorCode::kCorrupt, {"not JSON"});
}

TEST(Config, IsWrittenAsJsonThatReadsBackTheSame) {
  KRAIT_ASSERT_VALUE(const Config config, Config::parse_json(R"({"a": 1, "b": {"c": [1, 2], "d": {"e": "\u00e9\n"}},
      "f": [0.5, 2], "g": true, "h": null, "i": 1e-05, "j": ["x", "y"], "k": 1.0})",
                                                             "c.json"));
  KRAIT_ASSERT_VALUE(const std::string text, config.to_json());
  KRAIT_ASSERT_VALUE(const Config again, Config::parse_json(text, "c.json"));
  EXPECT_EQ(again.values(), config.values());
}

TEST(Config, RefusesToWriteWhatJsonCannotSay) {
  Config infinite("c.json");
  infinite.set("time_step_limit", std::vector<double>{0.0, std::numeric_limits<double>::infinity()});
  expect_error(infinite.to_json(), ErrorCode::kInvalidArgument, {"time_step_limit", "c.json"});
  Config both("c.json");
  both.set("a", std::int64_t{1});
  both.set("a.b", std::int64_t{2});
  expect_error(both.to_json(), ErrorCode::kInvalidArgument, {"a.b"});
  Config broken("c.json");
  broken.set("a", std::string("\xFF"));
  expect_error(broken.to_json(), ErrorCode::kInvalidArgument, {"UTF-8"});
}

}  // namespace
}  // namespace krait::formats
