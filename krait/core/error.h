// How krait reports that something went wrong. Three kinds, three means:
//   1. The world is wrong (file, request, peer): return Result<T>; build the error with fail().
//   2. The caller is wrong (a flag, a shape at an API door): throw UserError with a hint.
//   3. We are wrong: KRAIT_CHECK in check.h throws InternalError.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace krait {
inline namespace core {

enum class ErrorCode {
  kNotFound,         // a file, tensor or key that should be there is not
  kInputOutput,      // the operating system refused to read or write
  kCorrupt,          // bytes that contradict themselves or their format
  kUnsupported,      // well formed, but not something krait can use
  kInvalidArgument,  // a value outside what the callee accepts
  kResourceExhausted,
  kCancelled,  // the caller asked to stop
  kInternal,   // a mistake of ours, where an exception became an Error (a server goes on after one)
};

// A short lower-case word for messages and JSON, such as "corrupt".
std::string_view to_string(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message;  // "[room or format] what is wrong, with the values (which file)"
};

template <class T>
using Result = std::expected<T, Error>;

template <class... Args>
[[nodiscard]] std::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// The caller gave something that cannot work. `hint` says what would.
class UserError : public std::runtime_error {
 public:
  UserError(const std::string& message, std::string hint) : std::runtime_error(message), hint_(std::move(hint)) {}
  const std::string& hint() const { return hint_; }

 private:
  std::string hint_;
};

#define KRAIT_CONCAT_INNER(a, b) a##b
#define KRAIT_CONCAT(a, b) KRAIT_CONCAT_INNER(a, b)

// KRAIT_ASSIGN(auto x, f()): x = value of the Result f(), or return its error from this function.
#define KRAIT_ASSIGN(declaration, expression) \
  KRAIT_ASSIGN_WITH(KRAIT_CONCAT(krait_result_, __LINE__), declaration, expression)
#define KRAIT_ASSIGN_WITH(name, declaration, expression)      \
  auto name = (expression);                                   \
  if (!name) return std::unexpected(std::move(name).error()); \
  declaration = *std::move(name)

// KRAIT_TRY(f()): return the error of the Result f() from this function, if it has one.
#define KRAIT_TRY(expression)                                                                          \
  do {                                                                                                 \
    if (auto krait_result = (expression); !krait_result) return std::unexpected(krait_result.error()); \
  } while (false)

}  // namespace core
}  // namespace krait
