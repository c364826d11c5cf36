#include "krait/load/metrics_samples.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace krait::load {
namespace {

std::optional<double> number(std::string_view text) {
  if (text == "+Inf") return std::numeric_limits<double>::infinity();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The value of a label in `a="x",b="y"`, with escapes undone.
std::optional<std::string> label_of(std::string_view labels, std::string_view label) {
  while (!labels.empty()) {
    const std::size_t equals = labels.find("=\"");
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string_view name = labels.substr(0, equals);
    labels.remove_prefix(equals + 2);
    std::string value;
    std::size_t i = 0;
    for (; i < labels.size() && labels[i] != '"'; ++i) {
      if (labels[i] == '\\' && i + 1 < labels.size()) {
        ++i;
        value += labels[i] == 'n' ? '\n' : labels[i];
      } else {
        value += labels[i];
      }
    }
    if (name == label) return value;
    labels.remove_prefix(std::min(i + 1, labels.size()));
    if (labels.starts_with(',')) labels.remove_prefix(1);
  }
  return std::nullopt;
}

}  // namespace

Result<MetricsSamples> MetricsSamples::parse(std::string_view text) {
  MetricsSamples samples;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    // Labels may hold spaces.
    const std::size_t brace = line.rfind('}');
    const std::size_t space = line.find(' ', brace == std::string_view::npos ? 0 : brace);
    const auto value = space == std::string_view::npos ? std::nullopt : number(line.substr(space + 1));
    if (!value) return fail(ErrorCode::kCorrupt, "[metrics] \"{}\" is no sample", line.substr(0, 100));
    samples.values_[std::string(line.substr(0, space))] = *value;
  }
  return samples;
}

double MetricsSamples::value(const std::string& sample) const {
  const auto found = values_.find(sample);
  return found == values_.end() ? 0 : found->second;
}

std::vector<std::pair<std::string, double>> MetricsSamples::by_label(std::string_view name,
                                                                     std::string_view label) const {
  std::vector<std::pair<std::string, double>> result;
  const std::string begin = std::string(name) + "{";
  for (auto at = values_.lower_bound(begin); at != values_.end() && at->first.starts_with(begin); ++at) {
    const std::string_view labels =
        std::string_view(at->first).substr(begin.size(), at->first.size() - begin.size() - 1);
    const auto value = label_of(labels, label);
    if (!value) continue;
    const auto same = std::ranges::find(result, *value, &std::pair<std::string, double>::first);
    if (same == result.end()) {
      result.emplace_back(*value, at->second);
    } else {
      same->second += at->second;
    }
  }
  return result;
}

std::vector<std::pair<double, double>> MetricsSamples::buckets(std::string_view name) const {
  std::vector<std::pair<double, double>> result;
  for (const auto& [bound, count] : by_label(std::string(name) + "_bucket", "le")) {
    if (const auto value = number(bound)) result.emplace_back(*value, count);
  }
  std::ranges::sort(result);
  return result;
}

double quantile_between(const MetricsSamples& before, const MetricsSamples& after, std::string_view name,
                        double share) {
  const auto old = before.buckets(name);
  auto now = after.buckets(name);
  for (auto& [bound, count] : now) {
    const auto same = std::ranges::find(old, bound, &std::pair<double, double>::first);
    if (same != old.end()) count -= same->second;
  }
  if (now.empty() || now.back().second <= 0) return -1;
  const double rank = share * now.back().second;
  double lower = 0, below = 0;
  for (const auto& [bound, count] : now) {
    if (count >= rank) {
      if (std::isinf(bound)) return lower;  // above all bounds: no more is known
      return count > below ? lower + (bound - lower) * (rank - below) / (count - below) : bound;
    }
    lower = bound;
    below = count;
  }
  return lower;
}

}  // namespace krait::load
