// The first 64 bytes of a state object, shared by its writer and its reader.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

#include "krait/core/hash.h"

namespace krait::formats {

inline constexpr std::array<char, 8> kStateMagic = {'K', 'R', 'A', 'I', 'T', 'S', 'T', '\n'};
inline constexpr std::uint32_t kStateEndianness = 0x01020304;
inline constexpr std::uint64_t kStateAlignment = 64;

struct StatePrelude {
  std::array<char, 8> magic = kStateMagic;
  std::uint32_t endianness = kStateEndianness;  // as the writing machine stores it
  std::uint32_t version = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t header_bytes = 0;  // the JSON, which begins at byte 64
  std::uint32_t header_crc32c = 0;
  std::uint32_t reserved = 0;
  std::uint64_t object_high = 0;  // XXH3-128 of the whole object, in which these two and the next but one are zero
  std::uint64_t object_low = 0;
  std::uint32_t reserved_too = 0;
  std::uint32_t prelude_crc32c = 0;  // of the 60 bytes before it

  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(this, 1)); }
};
static_assert(sizeof(StatePrelude) == 64 && std::is_trivially_copyable_v<StatePrelude>);
static_assert(std::endian::native == std::endian::little, "state objects are written as they stand in memory");

inline constexpr std::uint64_t state_aligned(std::uint64_t offset) {
  return (offset + kStateAlignment - 1) / kStateAlignment * kStateAlignment;
}

}  // namespace krait::formats
