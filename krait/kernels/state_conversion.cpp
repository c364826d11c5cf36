#include "krait/kernels/state_conversion.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/state_storage.h"

namespace krait::kernels {
namespace {

template <class T>
T value_at(const std::byte* from, std::int64_t index) {
  T value;
  std::memcpy(&value, from + index * static_cast<std::int64_t>(sizeof value), sizeof value);
  return value;
}

template <class T>
void put(std::byte* to, std::int64_t index, T value) {
  std::memcpy(to + index * static_cast<std::int64_t>(sizeof value), &value, sizeof value);
}

// Value `index` of stored ones; `scale` is that of its block, for int8.
float widened(DType dtype, const std::byte* from, std::int64_t index, float scale) {
  switch (dtype) {
    case DType::kF32: return value_at<float>(from, index);
    case DType::kBF16: return bf16_to_f32(value_at<std::uint16_t>(from, index));
    default: return scale * static_cast<float>(value_at<std::int8_t>(from, index));
  }
}

void store_block(DType dtype, const float* values, std::int64_t count, std::byte* to, std::int64_t index,
                 std::byte* scale) {
  if (dtype == DType::kF32) {
    std::memcpy(to + index * 4, values, static_cast<std::size_t>(count) * 4);
  } else if (dtype == DType::kBF16) {
    for (std::int64_t i = 0; i < count; ++i) put(to, index + i, f32_to_bf16(values[i]));
  } else {
    float most = 0.0F;
    for (std::int64_t i = 0; i < count; ++i) most = std::max(most, std::fabs(values[i]));
    // As the scans have it: below 2^-100 the inverse would overflow.
    const bool zero = most < 0x1p-100F;
    put(scale, 0, zero ? 0.0F : most * (1.0F / 127.0F));
    const float inverse = zero ? 0.0F : 127.0F / most;
    for (std::int64_t i = 0; i < count; ++i) {
      put(to, index + i, static_cast<std::int8_t>(std::clamp(std::nearbyint(values[i] * inverse), -127.0F, 127.0F)));
    }
  }
}

}  // namespace

void convert_state(DType from_dtype, const std::byte* from, std::int64_t rows, std::int64_t width, DType to_dtype,
                   std::byte* to) {
  KRAIT_CHECK(is_state_dtype(from_dtype) && is_state_dtype(to_dtype), "a state from {} to {}", to_string(from_dtype),
              to_string(to_dtype));
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, static_cast<std::size_t>(state_bytes(from_dtype, rows, width)));
    return;
  }
  const std::int64_t blocks = state_blocks(width);
  const std::byte* const from_scales = from + state_scales_offset(rows, width);
  std::byte* const to_scales = to + state_scales_offset(rows, width);
  float values[kStateBlock];
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t count = std::min(kStateBlock, width - block * kStateBlock);
      const std::int64_t index = row * width + block * kStateBlock;
      const float scale = from_dtype == DType::kI8 ? value_at<float>(from_scales, row * blocks + block) : 0.0F;
      for (std::int64_t i = 0; i < count; ++i) values[i] = widened(from_dtype, from, index + i, scale);
      store_block(to_dtype, values, count, to, index, to_scales + (row * blocks + block) * 4);
    }
  }
}

void convert_kv_page(const KvShape& shape, const std::byte* from, DType to_dtype, std::byte* to) {
  KvShape target = shape;
  target.dtype = to_dtype;
  std::memset(to, 0, static_cast<std::size_t>(target.page_bytes()));  // the padding of values
  const KvSequence sequence{.ring = to, .ring_pages = 1};
  std::vector<float> rows;
  // The rows [64, heads * width] that the page was made of; storing them is the business of kv_page.cpp.
  const auto gather = [&](std::int64_t heads, std::int64_t width, auto values_offset, auto scales_offset,
                          std::int64_t token_stride, std::int64_t component_stride) {
    rows.resize(static_cast<std::size_t>(kKvPageTokens * heads * width));
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t token = 0; token < kKvPageTokens; ++token) {
        const float scale = shape.dtype == DType::kI8 ? value_at<float>(from + scales_offset(head), token) : 0.0F;
        for (std::int64_t i = 0; i < width; ++i) {
          rows[static_cast<std::size_t>((token * heads + head) * width + i)] =
              widened(shape.dtype, from + values_offset(head), token * token_stride + i * component_stride, scale);
        }
      }
    }
    return RowsIn(rows.data(), kKvPageTokens, heads * width);
  };
  const RowsIn keys = gather(
      shape.key_heads, shape.key_width, [&](std::int64_t head) { return shape.keys_offset(head); },
      [&](std::int64_t head) { return shape.key_scales_offset(head); }, 1, kKvPageTokens);
  for (std::int64_t head = 0; head < shape.key_heads; ++head) {
    store_keys(target, sequence, head, 0, kKvPageTokens, 0, keys);
  }
  const RowsIn values = gather(
      shape.value_heads, shape.value_width, [&](std::int64_t head) { return shape.values_offset(head); },
      [&](std::int64_t head) { return shape.value_scales_offset(head); }, shape.padded_value_width(), 1);
  for (std::int64_t head = 0; head < shape.value_heads; ++head) {
    store_values(target, sequence, head, 0, kKvPageTokens, 0, values);
  }
}

}  // namespace krait::kernels
