// Text in the exposition format of Prometheus (version 0.0.4): counters, gauges and histograms, written when they are
// asked for from numbers that others keep.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "krait/server/histogram.h"

namespace krait::server {

inline constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

class MetricsText {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  // Begins a metric; its samples follow. Times are in seconds and sizes in bytes, as the names say.
  void counter(std::string_view name, std::string_view help) { head(name, help, "counter"); }
  void gauge(std::string_view name, std::string_view help) { head(name, help, "gauge"); }
  void sample(double value, Labels labels = {});
  void histogram(std::string_view name, std::string_view help, const Histogram& histogram);

  const std::string& text() const { return text_; }

 private:
  void head(std::string_view name, std::string_view help, std::string_view type);
  void line(std::string_view suffix, double value, Labels labels);

  std::string name_;
  std::string text_;
};

}  // namespace krait::server
