#include "krait/load/metrics_samples.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "krait/load/top_view.h"

namespace krait::load {
namespace {

MetricsSamples samples(std::string_view text) { return MetricsSamples::parse(text).value(); }

TEST(MetricsSamples, AreReadWithTheirLabels) {
  const auto read = samples(
      "# HELP a Of what\n# TYPE a counter\na 3\n"
      "b{x=\"p q\",y=\"1\"} 2.5\nb{x=\"p q\",y=\"2\"} 1\nb{x=\"say \\\"hi}\\\"\\n\",y=\"1\"} 7\nbc{x=\"z\"} 9\n");
  EXPECT_EQ(read.value("a"), 3);
  EXPECT_EQ(read.value("b{x=\"p q\",y=\"1\"}"), 2.5);
  EXPECT_EQ(read.value("none"), 0);
  const auto by_x = read.by_label("b", "x");
  ASSERT_EQ(by_x.size(), 2);
  EXPECT_EQ(by_x[0], (std::pair<std::string, double>("p q", 3.5)));
  EXPECT_EQ(by_x[1], (std::pair<std::string, double>("say \"hi}\"\n", 7)));
  EXPECT_FALSE(MetricsSamples::parse("<html>\n"));
  EXPECT_FALSE(MetricsSamples::parse("a\n"));
}

std::string histogram(int first, int second, int all) {
  return fmt::format("h_bucket{{le=\"0.1\"}} {}\nh_bucket{{le=\"0.5\"}} {}\nh_bucket{{le=\"+Inf\"}} {}\n", first,
                     second, all);
}

TEST(MetricsSamples, GiveQuantilesOfWhatCameInBetween) {
  const auto before = samples(histogram(100, 100, 100));
  // Ten below 0.1, thirty up to 0.5, none above.
  const auto after = samples(histogram(110, 140, 140));
  EXPECT_DOUBLE_EQ(quantile_between(before, after, "h", 0.25), 0.1);
  EXPECT_DOUBLE_EQ(quantile_between(before, after, "h", 0.125), 0.05);
  EXPECT_DOUBLE_EQ(quantile_between(before, after, "h", 0.625), 0.1 + 0.4 / 2);
  EXPECT_EQ(quantile_between(before, before, "h", 0.5), -1);
  // Above all bounds: the last bound is what is known.
  EXPECT_DOUBLE_EQ(quantile_between(before, samples(histogram(100, 100, 130)), "h", 0.5), 0.5);
}

TEST(TopView, FitsTheWindowAndShowsNoControlCharacters) {
  const auto before =
      samples("krait_generated_tokens_total 100\nkrait_key_tokens_total{key=\"a\x1b[2J\",kind=\"generated\"} 5\n");
  const auto after = samples(
      "krait_generated_tokens_total 300\nkrait_sequences{stage=\"decoding\"} 4\n"
      "krait_key_tokens_total{key=\"a\x1b[2J\",kind=\"generated\"} "
      "25\nkrait_key_tokens_total{key=\"a\x1b[2J\",kind=\"prompt\"} 900\n");
  const TopView view = view_between(before, after, 2);
  EXPECT_EQ(view.generated_rate, 100);
  ASSERT_EQ(view.key_tokens.size(), 1);
  EXPECT_EQ(view.key_tokens[0].second, 10);
  for (const auto& [width, height] : {std::pair(80, 24), std::pair(20, 5), std::pair(1, 1)}) {
    const auto lines = lines_of(view, "top", static_cast<std::size_t>(width), static_cast<std::size_t>(height), false);
    EXPECT_LE(lines.size(), static_cast<std::size_t>(height));
    for (const std::string& line : lines) {
      EXPECT_LE(line.size(), static_cast<std::size_t>(width));
      EXPECT_EQ(line.find('\x1b'), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace krait::load
