// The words of a text and how often each stands in it: all that a tokenizer's training looks at. A word is a piece that
// the split pattern cuts (" the", "'s", "!\""); no token crosses its borders.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/tokenizer_regex.h"
#include "krait/formats/tokenizer_vocabulary.h"

namespace krait::train {

class WordCounter {
 public:
  // `scheme`: a name of formats/tokenizer_split_schemes.h, such as "gpt-2". Texts are cut at `boundaries` (special
  // tokens), which are no words. kInvalidArgument for a scheme that is not known.
  static Result<WordCounter> make(std::string_view scheme, std::span<const std::string> boundaries);

  // A whole text; words do not reach into the next. Bytes that are not UTF-8 are words of one byte. `progress` is told
  // now and then how many bytes of all texts have become words; when it answers no, the rest is left and this is false.
  using ProgressFunction = std::function<bool(std::int64_t bytes)>;
  bool read(std::string_view text, const ProgressFunction& progress = {});

  using Counts = std::unordered_map<std::string, std::int64_t, formats::StringHash, std::equal_to<>>;
  const Counts& counts() const { return counts_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  WordCounter() = default;
  void cut_at_boundaries(std::string_view text);
  void cut(std::string_view text, std::size_t pattern);
  void count(std::string_view word);

  std::vector<formats::SplitRegex> patterns_;  // each cuts the pieces of the one before
  std::optional<formats::SplitRegex> boundaries_;
  Counts counts_;
  std::int64_t bytes_ = 0;
  const ProgressFunction* progress_ = nullptr;  // while reading
  std::int64_t unreported_ = 0;                 // bytes since it was told
  bool stopped_ = false;
};

}  // namespace krait::train
