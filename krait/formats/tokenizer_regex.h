// A compiled split pattern (PCRE2, just-in-time compiled, Unicode), safe to use from several threads.
// Not a general regex class: it finds the next match in valid UTF-8, and says when more text could change it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "krait/core/error.h"

namespace krait::formats {

class SplitRegex {
 public:
  // kUnsupported for a pattern that PCRE2 refuses or that can match the empty string.
  static Result<SplitRegex> compile(std::string_view pattern, const std::string& origin);
  static std::string quote(std::string_view literal);  // a pattern that matches just this text

  struct Found {
    enum Kind { kNone, kMatch, kUndecided } kind;
    std::size_t begin;  // of the match, or of the earliest match that more text could make; text.size() if kNone
    std::size_t end;
  };
  // The next match at or after `from`. With `closes`, the text ends where it ends; without, a match that more text
  // could change is reported as kUndecided.
  Found find(std::string_view text, std::size_t from, bool closes) const;

  // Whether a match may look at what precedes it (lookbehind, \b, ^). Such a pattern must see its text from the
  // start and cannot be resumed in the middle.
  bool looks_behind() const;

  SplitRegex(SplitRegex&&) noexcept;
  SplitRegex& operator=(SplitRegex&&) noexcept;
  ~SplitRegex();

 private:
  struct Compiled;
  explicit SplitRegex(std::unique_ptr<Compiled> compiled);
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace krait::formats
