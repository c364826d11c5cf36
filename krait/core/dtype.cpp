#include "krait/core/dtype.h"

#include <array>
#include <cctype>
#include <cmath>
#include <limits>

namespace krait {
inline namespace core {
namespace {

// Indexed by DType. Block sizes of the Q types follow the GGUF specification:
//   Q8_0: f16 scale + 32 int8; Q4_0: f16 scale + 32 nibbles;
//   K types hold 256 values: Q4_K 2×f16 + 12 scale bytes + 128; Q5_K adds 32 high-bit bytes;
//   Q6_K 128 low + 64 high + 16 scales + f16.
constexpr std::array<DTypeInfo, 20> kInfo = {{
    {"f64", 1, 8},     {"f32", 1, 4},    {"f16", 1, 2},      {"bf16", 1, 2},     {"f8_e4m3", 1, 1},
    {"f8_e5m2", 1, 1}, {"i64", 1, 8},    {"i32", 1, 4},      {"i16", 1, 2},      {"i8", 1, 1},
    {"u64", 1, 8},     {"u32", 1, 4},    {"u16", 1, 2},      {"u8", 1, 1},       {"bool", 1, 1},
    {"q8_0", 32, 34},  {"q4_0", 32, 18}, {"q4_k", 256, 144}, {"q5_k", 256, 176}, {"q6_k", 256, 210},
}};

}  // namespace

const DTypeInfo& info(DType dtype) { return kInfo[static_cast<std::size_t>(dtype)]; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (std::size_t i = 0; i < kInfo.size(); ++i) {
    const std::string_view candidate = kInfo[i].name;
    if (candidate.size() != name.size()) continue;
    bool same = true;
    for (std::size_t j = 0; j < name.size(); ++j) {
      same = same && std::tolower(static_cast<unsigned char>(name[j])) == candidate[j];
    }
    if (same) return static_cast<DType>(i);
  }
  return std::nullopt;
}

std::optional<std::uint64_t> bytes_for(DType dtype, std::int64_t elements) {
  const DTypeInfo& type = info(dtype);
  if (elements < 0 || elements % type.elements_per_block != 0) return std::nullopt;
  const auto blocks = static_cast<std::uint64_t>(elements / type.elements_per_block);
  const auto block_bytes = static_cast<std::uint64_t>(type.bytes_per_block);
  if (blocks > std::numeric_limits<std::uint64_t>::max() / block_bytes) return std::nullopt;
  return blocks * block_bytes;
}

float f16_to_f32(std::uint16_t value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value & 0x8000U) << 16;
  const std::uint32_t exponent = (value >> 10) & 0x1fU;
  const std::uint32_t mantissa = value & 0x3ffU;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000U | (mantissa << 13));
  if (exponent == 0) {
    // Zero and subnormals: mantissa × 2^-24 is exact in f32.
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U);
  if (magnitude >= 0x47800000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // |value| >= 65536
  if (magnitude < 0x38800000U) {                                                    // below 2^-14: subnormal
    // Adding 0.5 aligns the mantissa so that one f32 ulp is 2^-24: the hardware rounds to nearest even for us.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x3f000000U));
  }
  const std::uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

float f8e4m3_to_f32(std::uint8_t value) {
  const int exponent = (value >> 3) & 0xf;
  const int mantissa = value & 7;
  if (exponent == 0xf && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (value & 0x80U) != 0 ? -magnitude : magnitude;
}

}  // namespace core
}  // namespace krait
