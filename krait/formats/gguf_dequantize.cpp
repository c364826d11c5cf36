#include "krait/formats/gguf_dequantize.h"

#include <cstdint>
#include <cstring>

#include "krait/core/check.h"

namespace krait::formats {
namespace {

float half_at(const std::uint8_t* bytes) {
  std::uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return f16_to_f32(bits);
}

int signed_byte(std::uint8_t byte) { return static_cast<std::int8_t>(byte); }

void block_q8_0(const std::uint8_t* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(signed_byte(block[2 + i]));
}

void block_q4_0(const std::uint8_t* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((block[2 + i] & 0xf) - 8);
    out[i + 16] = d * static_cast<float>((block[2 + i] >> 4) - 8);
  }
}

struct ScaleAndMinimum {
  float scale;
  float minimum;
};

// Twelve bytes hold 8 scales and 8 minima of 6 bits. Bytes 0–3: scales of groups 0–3; bytes 4–7: minima of groups 0–3;
// bytes 8–11: low four bits of scale and minimum of groups 4–7, whose upper two bits are the upper bits of bytes 0–7.
ScaleAndMinimum scale_of_group(const std::uint8_t* packed, int group) {
  if (group < 4) return {static_cast<float>(packed[group] & 63), static_cast<float>(packed[group + 4] & 63)};
  const int scale = (packed[group + 4] & 0xf) | ((packed[group - 4] >> 6) << 4);
  const int minimum = (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4);
  return {static_cast<float>(scale), static_cast<float>(minimum)};
}

// Q4_K, and Q5_K when `fifth` (32 bytes) is given: bit g of byte i is the fifth bit of value i of group g.
void block_q45_k(const std::uint8_t* block, const std::uint8_t* fifth, const std::uint8_t* halves, float* out) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  const std::uint8_t* packed = block + 4;
  for (int group = 0; group < 8; ++group) {
    const auto [scale, minimum] = scale_of_group(packed, group);
    const float step = d * scale;
    const float shift = m * minimum;
    // Groups 2c and 2c+1 share 32 bytes: the even one has the low halves, the odd one the high halves.
    const std::uint8_t* bytes = halves + (group / 2) * 32;
    for (int i = 0; i < 32; ++i) {
      int q = group % 2 == 0 ? bytes[i] & 0xf : bytes[i] >> 4;
      if (fifth != nullptr) q |= ((fifth[i] >> group) & 1) << 4;
      out[group * 32 + i] = step * static_cast<float>(q) - shift;
    }
  }
}

void block_q4_k(const std::uint8_t* block, float* out) { block_q45_k(block, nullptr, block + 16, out); }
void block_q5_k(const std::uint8_t* block, float* out) { block_q45_k(block, block + 16, block + 48, out); }

void block_q6_k(const std::uint8_t* block, float* out) {
  const float d = half_at(block + 208);
  // Each half of the block (128 values) has 64 bytes of low halves, 32 of bit pairs and 8 scales. Row r of its four
  // rows of 32 values: low halves from bytes (r mod 2)·32, low nibbles for r < 2, high ones above; bit pair r.
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* low = block + half * 64;
    const std::uint8_t* high = block + 128 + half * 32;
    const std::uint8_t* scales = block + 192 + half * 8;
    for (int row = 0; row < 4; ++row) {
      for (int i = 0; i < 32; ++i) {
        const int byte = low[(row % 2) * 32 + i];
        const int q = (row < 2 ? byte & 0xf : byte >> 4) | (((high[i] >> (2 * row)) & 3) << 4);
        const float step = d * static_cast<float>(signed_byte(scales[row * 2 + i / 16]));
        out[half * 128 + row * 32 + i] = step * static_cast<float>(q - 32);
      }
    }
  }
}

using BlockFunction = void (*)(const std::uint8_t*, float*);

BlockFunction function_for(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0: return block_q8_0;
    case DType::kQ4_0: return block_q4_0;
    case DType::kQ4_K: return block_q4_k;
    case DType::kQ5_K: return block_q5_k;
    case DType::kQ6_K: return block_q6_k;
    default: return nullptr;
  }
}

}  // namespace

void dequantize_blocks(DType dtype, std::span<const std::byte> blocks, std::span<float> out) {
  const BlockFunction block_function = function_for(dtype);
  KRAIT_CHECK(block_function != nullptr, "{} is not a block format", to_string(dtype));
  const auto elements = static_cast<std::size_t>(info(dtype).elements_per_block);
  const auto bytes = static_cast<std::size_t>(info(dtype).bytes_per_block);
  const std::size_t count = out.size() / elements;
  KRAIT_CHECK_EQ(out.size(), count * elements);
  KRAIT_CHECK_EQ(blocks.size(), count * bytes);
  const auto* from = reinterpret_cast<const std::uint8_t*>(blocks.data());
  for (std::size_t i = 0; i < count; ++i) block_function(from + i * bytes, out.data() + i * elements);
}

}  // namespace krait::formats
