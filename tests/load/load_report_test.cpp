#include "krait/load/load_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace krait::load {
namespace {

TEST(LoadReport, PercentilesAreRanks) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const TimesOf times = times_of(values);
  EXPECT_EQ(times.p50, 50);
  EXPECT_EQ(times.p90, 90);
  EXPECT_EQ(times.p99, 99);
  EXPECT_EQ(times.most, 100);
  EXPECT_EQ(times.mean, 50.5);
  EXPECT_EQ(times_of({7}).p99, 7);
  EXPECT_EQ(times_of({}).p50, 0);
}

TEST(LoadReport, JainsIndexIsOneForEqualsAndOneOverNForOne) {
  EXPECT_DOUBLE_EQ(jain_index({5, 5, 5, 5}), 1);
  EXPECT_DOUBLE_EQ(jain_index({8, 0, 0, 0}), 0.25);
  EXPECT_DOUBLE_EQ(jain_index({}), 1);
}

TEST(LoadReport, CountsFromWhenARequestWasDue) {
  LoadResult result;
  result.seconds = 12;
  // Due at 4, sent late, first text at 6, four more by 7, over at 7.5.
  result.requests.push_back(
      {.due = 4, .first = 6, .last = 7, .end = 7.5, .prompt_tokens = 10, .tokens = 5, .error = ""});
  result.requests.push_back({.due = 5, .end = 6, .error = "status 429"});
  result.requests.push_back({.due = 1, .first = 2, .last = 2, .end = 2, .tokens = 1, .error = ""});  // warm-up
  LoadOptions options;
  options.warmup = 2;
  const LoadReport report = report_of(result, options, {.first_token = 1.9, .token = 1});
  EXPECT_EQ(report.seconds, 10);
  EXPECT_EQ(report.requests, 2);
  EXPECT_EQ(report.failed, 1);
  EXPECT_EQ(report.errors.at("status 429"), 1);
  EXPECT_DOUBLE_EQ(report.first_token.p50, 2);
  EXPECT_DOUBLE_EQ(report.token.p50, 0.25);
  EXPECT_DOUBLE_EQ(report.whole.p50, 3.5);
  EXPECT_DOUBLE_EQ(report.per_second(report.tokens), 0.5);
  EXPECT_EQ(report.good, 0);
  EXPECT_EQ(report_of(result, options, {.first_token = 2, .token = 0.25}).good, 1);
  EXPECT_EQ(nlohmann::json::parse(json_text(report, options, {}))["errors"]["status 429"], 1);
}

}  // namespace
}  // namespace krait::load
