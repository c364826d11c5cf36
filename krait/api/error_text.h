// The border of the C interface: every function's body runs in guarded(), which turns errors of all kinds into a status
// and the thread's last error. Nothing is thrown past it.
#pragma once

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string_view>

#include "krait.h"
#include "krait/core/error.h"

namespace krait::api {

krait_status status_of(ErrorCode code);

// Keep the thread's last error and give its status back. The second is for handlers: of the exception being handled.
krait_status remember(krait_status status, std::string_view message) noexcept;
krait_status remember_exception() noexcept;

// `body` returns Result<void>.
template <class Body>
krait_status guarded(Body&& body) noexcept {
  try {
    const Result<void> done = body();
    return done ? KRAIT_OK : remember(status_of(done.error().code), done.error().message);
  } catch (...) {
    return remember_exception();
  }
}

// That arguments are not null.
struct Argument {
  const void* value;
  const char* name;
  bool empty_array = false;  // which may be null
};
inline Result<void> need(std::initializer_list<Argument> arguments) {
  for (const Argument& argument : arguments) {
    if (argument.value == nullptr && !argument.empty_array) {
      return fail(ErrorCode::kInvalidArgument, "[api] {} is null", argument.name);
    }
  }
  return {};
}

// Places for results, as they are after a failure.
template <class... T>
void clear(T*... places) {
  ((places == nullptr ? void() : void(*places = T{})), ...);
}

// Memory for the caller, which krait_free() frees.
struct Free {
  void operator()(void* memory) const { krait_free(memory); }
};
template <class T>
using Given = std::unique_ptr<T, Free>;

// A copy of `bytes` with a zero after it.
Given<char> give(std::string_view bytes);

}  // namespace krait::api
