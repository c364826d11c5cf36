#include "krait/train/tokenizer_words.h"

#include <algorithm>

#include "krait/formats/tokenizer_split_schemes.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::train {

Result<WordCounter> WordCounter::make(std::string_view scheme, std::span<const std::string> boundaries) {
  const formats::SplitScheme* found = formats::find_split_scheme(scheme);
  if (found == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "[tokenizer] no way to split text is called '{}'", scheme);
  }
  WordCounter counter;
  for (const std::string_view pattern : found->patterns) {
    KRAIT_ASSIGN(formats::SplitRegex regex, formats::SplitRegex::compile(pattern, std::string(scheme)));
    counter.patterns_.push_back(std::move(regex));
  }
  // Where two begin at one place, the longer one is meant.
  std::vector<std::string> longest_first(boundaries.begin(), boundaries.end());
  std::ranges::stable_sort(longest_first, std::ranges::greater(), &std::string::size);
  std::string any;
  for (const std::string& boundary : longest_first) {
    if (!any.empty()) any += '|';
    any += formats::SplitRegex::quote(boundary);
  }
  if (!any.empty()) {
    KRAIT_ASSIGN(counter.boundaries_, formats::SplitRegex::compile(any, "special tokens"));
  }
  return counter;
}

bool WordCounter::read(std::string_view text, const ProgressFunction& progress) {
  progress_ = progress ? &progress : nullptr;
  stopped_ = false;
  while (!text.empty() && !stopped_) {
    const std::size_t valid = formats::valid_utf8_end(text, 0);
    cut_at_boundaries(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) break;
    count(text.substr(0, 1));
    text.remove_prefix(1);
  }
  progress_ = nullptr;
  return !stopped_;
}

void WordCounter::cut_at_boundaries(std::string_view text) {
  while (boundaries_ && !text.empty()) {
    const auto found = boundaries_->find(text, 0, true);
    if (found.kind != formats::SplitRegex::Found::kMatch) break;
    cut(text.substr(0, found.begin), 0);
    text.remove_prefix(found.end);
    bytes_ += static_cast<std::int64_t>(found.end - found.begin);
    if (stopped_) return;
  }
  cut(text, 0);
}

// What lies between the matches are pieces too.
void WordCounter::cut(std::string_view text, std::size_t pattern) {
  if (text.empty()) return;
  if (pattern == patterns_.size()) {
    count(text);
    return;
  }
  for (std::size_t from = 0; from < text.size() && !stopped_;) {
    const auto found = patterns_[pattern].find(text, from, true);
    if (found.kind != formats::SplitRegex::Found::kMatch) {
      cut(text.substr(from), pattern + 1);
      return;
    }
    cut(text.substr(from, found.begin - from), pattern + 1);
    cut(text.substr(found.begin, found.end - found.begin), pattern + 1);
    from = found.end;
  }
}

void WordCounter::count(std::string_view word) {
  constexpr std::int64_t kReport = 1 << 20;
  bytes_ += static_cast<std::int64_t>(word.size());
  unreported_ += static_cast<std::int64_t>(word.size());
  if (progress_ != nullptr && unreported_ >= kReport) {
    unreported_ = 0;
    stopped_ = !(*progress_)(bytes_);
  }
  const auto known = counts_.find(word);
  if (known != counts_.end()) {
    ++known->second;
  } else {
    counts_.emplace(std::string(word), 1);
  }
}

}  // namespace krait::train
