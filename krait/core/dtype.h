// Element types of tensors as they stand in files and in memory, and conversions between single values.
// Block formats (Q8_0 …) are those of GGUF: a block of `elements_per_block` values takes `bytes_per_block` bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace krait {
inline namespace core {

enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kQ8_0,
  kQ4_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

struct DTypeInfo {
  std::string_view name;            // "f32", "bf16", "q4_k", …
  std::int32_t elements_per_block;  // 1 for plain types
  std::int32_t bytes_per_block;
};

const DTypeInfo& info(DType dtype);
inline std::string_view to_string(DType dtype) { return info(dtype).name; }

// The dtype of that name ("f32", case-insensitive), or nothing.
std::optional<DType> parse_dtype(std::string_view name);

// Bytes of `elements` values; nothing when the count is negative, is not whole blocks, or overflows.
std::optional<std::uint64_t> bytes_for(DType dtype, std::int64_t elements);

// bfloat16 is the upper half of a float. Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
inline float bf16_to_f32(std::uint16_t value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16); }
inline std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

// IEEE binary16. f32_to_f16 rounds to nearest even and overflows to infinity.
float f16_to_f32(std::uint16_t value);
std::uint16_t f32_to_f16(float value);

// The 8-bit floats of safetensors: E4M3 has no infinity (OCP "fn" variant), E5M2 is the top byte of binary16.
float f8e4m3_to_f32(std::uint8_t value);
inline float f8e5m2_to_f32(std::uint8_t value) { return f16_to_f32(static_cast<std::uint16_t>(value << 8)); }

}  // namespace core
}  // namespace krait
