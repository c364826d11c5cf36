#include "krait/server/metrics.h"

#include <fmt/format.h>

#include <cmath>

namespace krait::server {
namespace {

std::string number_text(double value) {
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return std::isnan(value) ? "NaN" : fmt::format("{}", value);
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void MetricsText::head(std::string_view name, std::string_view help, std::string_view type) {
  name_ = name;
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void MetricsText::line(std::string_view suffix, double value, Labels labels) {
  text_ += name_;
  text_ += suffix;
  if (labels.size() > 0) {
    char separator = '{';
    for (const auto& [label, content] : labels) {
      text_ += fmt::format("{}{}=\"{}\"", separator, label, escaped(content));
      separator = ',';
    }
    text_ += '}';
  }
  text_ += fmt::format(" {}\n", number_text(value));
}

void MetricsText::sample(double value, Labels labels) { line("", value, labels); }

void MetricsText::histogram(std::string_view name, std::string_view help, const Histogram& histogram) {
  head(name, help, "histogram");
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < histogram.bounds().size(); ++i) {
    below += histogram.counts()[i];
    line("_bucket", static_cast<double>(below), {{"le", number_text(histogram.bounds()[i])}});
  }
  line("_bucket", static_cast<double>(histogram.count()), {{"le", "+Inf"}});
  line("_sum", histogram.sum(), {});
  line("_count", static_cast<double>(histogram.count()), {});
}

}  // namespace krait::server
