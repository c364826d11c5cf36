#include "krait/train/data_quality.h"

#include <fmt/format.h>

#include <unordered_set>

#include "krait/formats/tokenizer_utf8.h"

namespace krait::train {
namespace {

double share(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

bool is_control(char32_t code) {
  return (code < 0x20 && code != '\n' && code != '\t' && code != '\r') || (code >= 0x7f && code < 0xa0);
}

std::string_view without_blanks(std::string_view line) {
  const std::size_t first = line.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
}

}  // namespace

TextMeasures measure_text(std::string_view text) {
  std::int64_t characters = 0, unprintable = 0, visible = 0, symbols = 0;
  for (std::size_t at = 0; at < text.size();) {
    const formats::Utf8Step step = formats::read_utf8(text, at);
    at += step.length;
    ++characters;
    if (step.status != formats::Utf8Step::kValid || is_control(step.code) || step.code == 0xFFFD) {
      ++unprintable;
    } else if (!formats::is_white_space(step.code)) {
      ++visible;
      symbols += formats::is_word_character(step.code) ? 0 : 1;
    }
  }
  std::int64_t lines = 0, repeated = 0;
  std::unordered_set<std::string_view> seen;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view whole = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(whole.size() + 1, rest.size()));
    const std::string_view line = without_blanks(whole);
    if (line.empty()) continue;
    ++lines;
    repeated += seen.insert(line).second ? 0 : 1;
  }
  return {1 - share(unprintable, characters), share(symbols, visible), share(repeated, lines)};
}

QualityFilter::QualityFilter(const QualityOptions& options) : options_(options) {
  rules_ = {{"shortest", fmt::format("{} bytes", options.shortest)},
            {"longest", fmt::format("{} bytes", options.longest)},
            {"least_printable", fmt::format("{}", options.least_printable)},
            {"most_symbols", fmt::format("{}", options.most_symbols)},
            {"most_repeated_lines", fmt::format("{}", options.most_repeated_lines)}};
}

bool QualityFilter::keeps(std::string_view text) {
  const auto bytes = static_cast<std::int64_t>(text.size());
  const bool right_length = bytes >= options_.shortest && bytes <= options_.longest;
  const TextMeasures measures = right_length ? measure_text(text) : TextMeasures();
  const bool broken[] = {bytes<options_.shortest, bytes> options_.longest,
                         measures.printable<options_.least_printable, measures.symbols> options_.most_symbols,
                         measures.repeated_lines > options_.most_repeated_lines};
  for (std::size_t rule = 0; rule < rules_.size(); ++rule) {
    if (!broken[rule]) continue;
    ++rules_[rule].dropped;
    return false;
  }
  ++kept_;
  return true;
}

}  // namespace krait::train
