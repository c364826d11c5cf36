// Structures that begin with their size and grow at their end. A program that was built with an older header has
// shorter ones: what it lacks takes its default. One built with a newer header has longer ones, which are taken as long
// as they ask for nothing that this library does not know.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "krait/core/error.h"

namespace krait::api {

// `first_size`: of the structure's first release.
template <class T>
Result<void> check_size(const T& given, std::size_t first_size, const char* name) {
  constexpr std::size_t kMost = 4096;  // more is no size but what happened to be in memory
  if (given.size >= first_size && given.size <= kMost) return {};
  return fail(ErrorCode::kInvalidArgument, "[api] {} of {} bytes: there are {} at least; set them with the initialiser",
              name, given.size, first_size);
}

// `given` may be null.
template <class T>
Result<T> read_options(const T* given, const T& defaults, std::size_t first_size, const char* name) {
  if (given == nullptr) return defaults;
  KRAIT_TRY(check_size(*given, first_size, name));
  const std::span bytes(reinterpret_cast<const std::byte*>(given), given->size);
  const std::size_t known = std::min(bytes.size(), sizeof(T));
  if (std::ranges::any_of(bytes.subspan(known), [](std::byte byte) { return byte != std::byte{0}; })) {
    return fail(ErrorCode::kUnsupported, "[api] {} of {} bytes ask for something newer than this library, which has {}",
                name, given->size, sizeof(T));
  }
  T options = defaults;
  std::memcpy(&options, given, known);
  return options;
}

// What this library does not know becomes zero.
template <class T>
Result<void> write_facts(T& out, const T& facts, std::size_t first_size, const char* name) {
  KRAIT_TRY(check_size(out, first_size, name));
  const std::size_t size = out.size;
  std::memset(&out, 0, size);
  std::memcpy(&out, &facts, std::min(size, sizeof(T)));
  out.size = size;
  return {};
}

}  // namespace krait::api
