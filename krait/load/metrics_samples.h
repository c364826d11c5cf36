// What GET /metrics says, in Prometheus' text format, and what two such readings say of the time between them.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krait/core/error.h"

namespace krait::load {

class MetricsSamples {
 public:
  // kCorrupt with the line that is no sample.
  static Result<MetricsSamples> parse(std::string_view text);

  // Of a sample as its line begins: `krait_sequences{stage="decoding"}`. 0 where there is none.
  double value(const std::string& sample) const;
  bool has(const std::string& sample) const { return values_.contains(sample); }
  // The values of a metric by one of its labels, of samples with no other or whatever others.
  std::vector<std::pair<std::string, double>> by_label(std::string_view name, std::string_view label) const;
  // Rising (upper bound, values at or below it) of a histogram; the last bound is infinite.
  std::vector<std::pair<double, double>> buckets(std::string_view name) const;

 private:
  std::map<std::string, double> values_;
};

// The quantile of what a histogram took in between two readings, linear within a bucket; -1 when that is nothing.
double quantile_between(const MetricsSamples& before, const MetricsSamples& after, std::string_view name, double share);

}  // namespace krait::load
