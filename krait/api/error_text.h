// The border of the C interface: every function's body runs in guarded(), which turns errors of all kinds into a status
// and the thread's last error. Nothing is thrown past it.
#pragma once

#include <cstddef>
#include <cstring>
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

// That an argument is not null.
inline Result<void> need(const void* argument, const char* name) {
  if (argument == nullptr) return fail(ErrorCode::kInvalidArgument, "[api] {} is null", name);
  return {};
}

// The same of an array, which may be null when it is empty.
inline Result<void> need(const void* argument, std::size_t count, const char* name) {
  if (argument == nullptr && count > 0) return fail(ErrorCode::kInvalidArgument, "[api] {} is null", name);
  return {};
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
