// A study's numbers as tables, JSON and a picture.
#include "krait/train/study_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace krait::train {
namespace {

StudyNumbers run_of(std::string variant, std::int64_t seed, double own, double longer) {
  return {.variant = std::move(variant),
          .seed = seed,
          .steps = 100,
          .parameters = 12345,
          .tokens = 6400,
          .seconds = 90.0,
          .scores = {{.name = std::string(kOwnTask), .examples = 32, .loss = {}, .accuracy = own, .exact_match = 0.5},
                     {.name = "longer", .examples = 8, .loss = {}, .accuracy = longer, .exact_match = 0.25}}};
}

const std::vector<std::string> kVariants = {"a<b", "second", "third"};
const std::vector<StudyNumbers> kRuns = {run_of("a<b", 1, 0.75, 0.5), run_of("second", 1, 1.0, 0.25),
                                         run_of("a<b", 2, 0.25, 1.0)};

std::size_t count_of(const std::string& text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(StudyReport, SpreadsAreOverTheSeedsOfAVariant) {
  const auto columns = study_columns(kVariants, kRuns);
  ASSERT_EQ(columns.size(), 2u);
  EXPECT_EQ(columns[0].name, kOwnTask);
  EXPECT_EQ(columns[1].name, "longer");
  ASSERT_TRUE(columns[1].of_variants[0]);
  EXPECT_EQ(columns[1].of_variants[0]->mean, 0.75);
  EXPECT_EQ(columns[1].of_variants[0]->least, 0.5);
  EXPECT_EQ(columns[1].of_variants[0]->most, 1.0);
  EXPECT_EQ(columns[1].of_variants[0]->values, (std::vector<double>{0.5, 1.0}));
  EXPECT_EQ(columns[1].of_variants[1]->mean, 0.25);
  EXPECT_FALSE(columns[0].of_variants[2]);
}

TEST(StudyReport, TablesSayTheSame) {
  const std::string table = study_table(kVariants, kRuns);
  EXPECT_EQ(table,
            "variant  runs  parameters  minutes a run               as trained                    longer\n"
            "a<b         2      12,345            1.5  50.00 % (25.00 – 75.00)  75.00 % (50.00 – 100.00)\n"
            "second      1      12,345            1.5                 100.00 %                   25.00 %\n"
            "third       0           –              –                        –                         –\n");
  const std::string markdown = study_markdown("title", kVariants, kRuns);
  EXPECT_NE(markdown.find("| a<b | 2 | 12,345 | 1.5 | 50.00 % (25.00 – 75.00) | 75.00 % (50.00 – 100.00) |\n"),
            std::string::npos)
      << markdown;
  EXPECT_EQ(spread_text({.mean = 1.5, .least = 1.25, .most = 1.75, .values = {1.25, 1.75}}, true),
            "1.5000 (1.2500 – 1.7500)");
}

TEST(StudyReport, JsonHasEveryNumber) {
  const auto json = nlohmann::json::parse(study_json(kVariants, kRuns));
  ASSERT_EQ(json["runs"].size(), 3u);
  EXPECT_EQ(json["runs"][2]["variant"], "a<b");
  EXPECT_EQ(json["runs"][2]["seed"], 2);
  EXPECT_EQ(json["runs"][2]["tokens"], 6400);
  EXPECT_EQ(json["runs"][2]["scores"][1]["exact_match"], 0.25);
  EXPECT_EQ(json["variants"][0]["scores"]["longer"]["accuracy"], 0.75);
  EXPECT_EQ(json["variants"][0]["scores"]["longer"]["runs"], 2);
  EXPECT_TRUE(json["variants"][2]["scores"].empty());
}

TEST(StudyReport, ChartHasABarAVariantAndAPointASeed) {
  const std::string chart = study_chart("title", kVariants, kRuns);
  EXPECT_EQ(count_of(chart, "<circle"), 6u);
  EXPECT_EQ(count_of(chart, "<rect x=\""), 4u + 3u);  // and the legend's
  EXPECT_EQ(count_of(chart, "a<b"), 0u);
  EXPECT_EQ(count_of(chart, "a&lt;b"), 1u);
  // A bar of three quarters of the plot's height.
  EXPECT_NE(chart.find("height=\"150.0\""), std::string::npos) << chart;
  // Nothing to show is a picture too.
  EXPECT_NE(study_chart("title", kVariants, {}).find("</svg>"), std::string::npos);
}

TEST(StudyReport, RecordsComeBackAsTheyWere) {
  StudyNumbers numbers = kRuns[0];
  numbers.scores.push_back({.name = std::string(kHeldOutText), .examples = 0, .loss = 2.5});
  numbers.seconds = 0.1 + 0.2;
  const auto back = parse_record(record_text({.config = R"({"a":1})", .numbers = numbers}), "x");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->config, R"({"a":1})");
  EXPECT_EQ(back->numbers, numbers);
  const auto begun = parse_record(record_text({.config = "{}", .numbers = {}}), "x");
  ASSERT_TRUE(begun);
  EXPECT_FALSE(begun->numbers);
  for (const char* text :
       {"", "{", "[]", "{}", R"({"config":{},"numbers":{"variant":3}})", R"({"config":{},"numbers":4})"}) {
    const auto wrong = parse_record(text, "x");
    ASSERT_FALSE(wrong) << text;
    EXPECT_EQ(wrong.error().code, ErrorCode::kCorrupt);
  }
}

TEST(StudyReport, SettingsThatAModelDependsOnAreCompared) {
  const std::string config = R"({"model":{"width":8,"mixers":["a"]},"evaluate":{"every":1},"output":{"folder":"x"}})";
  EXPECT_EQ(first_difference(config, config), "");
  EXPECT_EQ(first_difference(config, R"({"model":{"mixers":["a"],"width":8},"checkpoint":{"every":3}})"), "");
  EXPECT_EQ(first_difference(config, R"({"model":{"width":9,"mixers":["a"]}})"), "model.width");
  EXPECT_EQ(first_difference(config, R"({"model":{"width":8,"mixers":["a","b"]}})"), "model.mixers.1");
  EXPECT_EQ(first_difference(config, R"({"model":{"width":8}})"), "model.mixers.0");
}

TEST(StudyReport, EffortIsOfStepsAlone) {
  const StudyEffort effort = effort_of_log(
      "{\"step\":0,\"tokens\":10,\"seconds\":0.5}\n{\"step\":0,\"accuracy\":1}\n\n"
      "{\"step\":1,\"tokens\":20,\"seconds\":0.25}\n{\"step\":2,\"tok");
  EXPECT_EQ(effort.tokens, 30);
  EXPECT_EQ(effort.seconds, 0.75);
}

}  // namespace
}  // namespace krait::train
