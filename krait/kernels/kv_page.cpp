#include "krait/kernels/kv_page.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "krait/core/check.h"

namespace krait::kernels {
namespace {

// Stores count values a stride of bytes apart; the scale's reciprocal is for int8.
void store_strided(DType dtype, const float* from, std::int64_t count, std::byte* to, std::int64_t stride,
                   float inverse_scale) {
  switch (dtype) {
    case DType::kF32:
      for (std::int64_t i = 0; i < count; ++i) std::memcpy(to + i * stride, from + i, sizeof(float));
      return;
    case DType::kBF16:
      for (std::int64_t i = 0; i < count; ++i) {
        const std::uint16_t narrow = f32_to_bf16(from[i]);
        std::memcpy(to + i * stride, &narrow, sizeof(narrow));
      }
      return;
    default:
      for (std::int64_t i = 0; i < count; ++i) {
        const float steps = inverse_scale > 0.0F ? std::nearbyint(from[i] * inverse_scale) : 0.0F;
        to[i * stride] = static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(steps, -127.0F, 127.0F)));
      }
  }
}

// Writes the scale of one token's row of a head where it stands, and returns its reciprocal; 1 for other dtypes. It is
// 0 for rows of zeros and for rows that hold what is no number, whose scale is that: 0 times it is NaN again.
float store_scale(DType dtype, const float* from, std::int64_t count, std::byte* to) {
  if (dtype != DType::kI8) return 1.0F;
  float largest = 0.0F;
  bool number = true;
  for (std::int64_t i = 0; i < count; ++i) {
    number = number && std::isfinite(from[i]);
    largest = std::max(largest, std::fabs(from[i]));
  }
  const float scale = number ? largest / 127.0F : std::numeric_limits<float>::quiet_NaN();
  std::memcpy(to, &scale, sizeof(scale));
  // The reciprocal of a subnormal scale may overflow: such a row is as good as zero.
  return scale >= std::numeric_limits<float>::min() ? 1.0F / scale : 0.0F;
}

}  // namespace

void store_keys(const KvShape& shape, const KvSequence& sequence, std::int64_t head, std::int64_t first,
                std::int64_t count, std::int64_t row, RowsIn k) {
  const std::int64_t element = shape.element_bytes(), width = shape.key_width;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t token = first + i, slot = token % kKvPageTokens;
    std::byte* const page = sequence.page(token / kKvPageTokens, shape.page_bytes());
    const float* const from = k.row(row + i) + head * width;
    const float inverse =
        store_scale(shape.dtype, from, width, page + shape.key_scales_offset(head) + slot * std::int64_t{4});
    store_strided(shape.dtype, from, width, page + shape.keys_offset(head) + slot * element, kKvPageTokens * element,
                  inverse);
  }
}

void store_values(const KvShape& shape, const KvSequence& sequence, std::int64_t head, std::int64_t first,
                  std::int64_t count, std::int64_t row, RowsIn v) {
  const std::int64_t element = shape.element_bytes(), width = shape.value_width;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t token = first + i, slot = token % kKvPageTokens;
    std::byte* const page = sequence.page(token / kKvPageTokens, shape.page_bytes());
    const float* const from = v.row(row + i) + head * width;
    const float inverse =
        store_scale(shape.dtype, from, width, page + shape.value_scales_offset(head) + slot * std::int64_t{4});
    store_strided(shape.dtype, from, width,
                  page + shape.values_offset(head) + slot * shape.padded_value_width() * element, element, inverse);
  }
}

}  // namespace krait::kernels
