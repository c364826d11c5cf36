#include "krait/server/metrics.h"

#include <gtest/gtest.h>

namespace krait::server {
namespace {

TEST(Metrics, SamplesHaveHelpTypeAndLabels) {
  MetricsText out;
  out.counter("krait_x_total", "What x is");
  out.sample(3, {{"key", "a\"b\\c\nd"}, {"kind", "k"}});
  out.gauge("krait_y", "What y is");
  out.sample(0.5);
  EXPECT_EQ(out.text(),
            "# HELP krait_x_total What x is\n# TYPE krait_x_total counter\n"
            "krait_x_total{key=\"a\\\"b\\\\c\\nd\",kind=\"k\"} 3\n"
            "# HELP krait_y What y is\n# TYPE krait_y gauge\nkrait_y 0.5\n");
}

TEST(Metrics, BucketsOfHistogramsAddUp) {
  Histogram histogram({1, 2});
  for (const double value : {0.5, 1.0, 1.5, 5.0}) histogram.add(value);
  MetricsText out;
  out.histogram("krait_h", "h", histogram);
  EXPECT_NE(out.text().find("krait_h_bucket{le=\"1\"} 2\nkrait_h_bucket{le=\"2\"} 3\nkrait_h_bucket{le=\"+Inf\"} 4\n"
                            "krait_h_sum 8\nkrait_h_count 4\n"),
            std::string::npos)
      << out.text();
}

}  // namespace
}  // namespace krait::server
