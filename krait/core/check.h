// Assertions that stay on in release builds: a broken invariant of ours throws InternalError with the values,
// so that a server can answer 500, drop one session and live on.
#pragma once

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace krait {
inline namespace core {

class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] void check_failed(const char* expression, const std::string& detail,
                               std::source_location where = std::source_location::current());

#define KRAIT_CHECK(condition, ...)                                                \
  do {                                                                             \
    if (!(condition)) ::krait::check_failed(#condition, fmt::format(__VA_ARGS__)); \
  } while (false)

#define KRAIT_CHECK_EQ(left, right)                                                                     \
  do {                                                                                                  \
    const auto& krait_left = (left);                                                                    \
    const auto& krait_right = (right);                                                                  \
    if (!(krait_left == krait_right))                                                                   \
      ::krait::check_failed(#left " == " #right, fmt::format("{} versus {}", krait_left, krait_right)); \
  } while (false)

}  // namespace core
}  // namespace krait
