// Normalizers: rewriting of text before it is cut into tokens (Unicode forms, replacement, case, …).
// Each works on a text that arrives in pieces, holding back what more text could change. Bytes that are not UTF-8
// pass through untouched.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/tokenizer_regex.h"

namespace krait::formats {

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  // Appends the normal form of a prefix of `text` to `out` and returns its length: all of it if `closes`.
  // `opens`: the text begins here; the step clears it once that no longer matters.
  virtual std::size_t apply(std::string_view text, bool& opens, bool closes, std::string& out) const = 0;
};

enum class UnicodeForm { kNfc, kNfkc, kNfd, kNfkd };
Result<std::unique_ptr<NormalizerStep>> make_unicode_step(UnicodeForm form);
std::unique_ptr<NormalizerStep> make_repair_step();  // every byte that is not UTF-8 to U+FFFD
std::unique_ptr<NormalizerStep> make_lowercase_step();
std::unique_ptr<NormalizerStep> make_prepend_step(std::string prefix);  // before a text that is not empty
std::unique_ptr<NormalizerStep> make_strip_step(bool left, bool right);
std::unique_ptr<NormalizerStep> make_replace_step(std::string from, std::string to);  // `from` is not empty
std::unique_ptr<NormalizerStep> make_regex_replace_step(SplitRegex regex, std::string to);

using NormalizerSteps = std::vector<std::unique_ptr<NormalizerStep>>;

// The normal form of a whole text.
std::string normalize(const NormalizerSteps& steps, std::string_view text);

// Runs the steps over a text that arrives in pieces.
class NormalizerStream {
 public:
  explicit NormalizerStream(const NormalizerSteps& steps);
  // Appends what has become certain to `out`. `closes` ends the text and makes ready for another.
  void feed(std::string_view text, bool closes, std::string& out);

 private:
  struct Stage {
    std::string held;
    std::size_t try_at = 0;  // held bytes that make another try worth while
    bool opens = true;
  };
  void feed_stage(std::size_t index, std::string_view text, bool closes, std::string& out);

  const NormalizerSteps& steps_;
  std::vector<Stage> stages_;
};

}  // namespace krait::formats
