// Watches a stream of text for stop strings. Text that could be the beginning of one is held back until it is known.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace krait::runtime {

class StopStrings {
 public:
  // Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> strings);

  // Takes more text, returns what may be shown. Once a stop string has been found, text before it is returned, the
  // rest dropped and found() is true.
  std::string feed(std::string_view text);
  // The text held back, when no more follows.
  std::string finish();
  bool found() const { return found_; }
  const std::string& found_string() const { return which_; }  // empty: none

 private:
  std::vector<std::string> strings_;
  std::string held_;
  std::string which_;
  bool found_ = false;
};

}  // namespace krait::runtime
