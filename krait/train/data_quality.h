// Rules that keep a text out of the training data for what it looks like. Thresholds as Gopher's (Rae et al. 2021,
// appendix A.1.1) where that has one. A document is dropped by the first rule that it breaks.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace krait::train {

struct QualityOptions {
  std::int64_t shortest = 1;  // bytes
  std::int64_t longest = std::numeric_limits<std::int64_t>::max();
  double least_printable = 0.95;     // share of the characters that are no control characters and no broken UTF-8
  double most_symbols = 0.4;         // share of the visible characters that are no letters, digits or marks of words
  double most_repeated_lines = 0.3;  // share of the lines, blank ones aside, that stood in the document before
};

struct QualityRule {
  std::string name;     // "shortest"
  std::string setting;  // "1 byte"
  std::int64_t dropped = 0;
};

// What the rules look at.
struct TextMeasures {
  double printable = 1;
  double symbols = 0;
  double repeated_lines = 0;
};
TextMeasures measure_text(std::string_view text);

class QualityFilter {
 public:
  explicit QualityFilter(const QualityOptions& options);
  // Whether to keep the document; counts it.
  bool keeps(std::string_view text);
  std::span<const QualityRule> rules() const { return rules_; }  // in the order they are asked in
  std::int64_t kept() const { return kept_; }

 private:
  QualityOptions options_;
  std::vector<QualityRule> rules_;
  std::int64_t kept_ = 0;
};

}  // namespace krait::train
