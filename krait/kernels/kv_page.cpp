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

// Where a head's rows of keys, or of values, stand in a page.
struct HeadRows {
  std::int64_t head, width;
  std::int64_t values_offset, scales_offset;
  std::int64_t token_stride, component_stride;  // in elements
};

void store_rows(const KvShape& shape, const HeadRows& rows, const KvSequence& sequence, std::int64_t first,
                std::int64_t count, std::int64_t row, RowsIn from) {
  const std::int64_t element = shape.element_bytes();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t token = first + i, slot = token % kKvPageTokens;
    std::byte* const page = sequence.page(token / kKvPageTokens, shape.page_bytes());
    const float* const values = from.row(row + i) + rows.head * rows.width;
    const float inverse = store_scale(shape.dtype, values, rows.width,
                                      page + rows.scales_offset + slot * static_cast<std::int64_t>(sizeof(float)));
    store_strided(shape.dtype, values, rows.width, page + rows.values_offset + slot * rows.token_stride * element,
                  rows.component_stride * element, inverse);
  }
}

HeadRows key_rows(const KvShape& shape, std::int64_t head) {
  return {.head = head,
          .width = shape.key_width,
          .values_offset = shape.keys_offset(head),
          .scales_offset = shape.key_scales_offset(head),
          .token_stride = 1,
          .component_stride = kKvPageTokens};
}

HeadRows value_rows(const KvShape& shape, std::int64_t head) {
  return {.head = head,
          .width = shape.value_width,
          .values_offset = shape.values_offset(head),
          .scales_offset = shape.value_scales_offset(head),
          .token_stride = shape.padded_value_width(),
          .component_stride = 1};
}

void copy_rows(const KvShape& shape, const HeadRows& rows, const std::byte* from_page, std::int64_t from_slot,
               std::byte* to_page, std::int64_t to_slot) {
  const std::int64_t element = shape.element_bytes();
  const std::byte* from = from_page + rows.values_offset + from_slot * rows.token_stride * element;
  std::byte* to = to_page + rows.values_offset + to_slot * rows.token_stride * element;
  for (std::int64_t i = 0; i < rows.width; ++i) {
    const std::int64_t at = i * rows.component_stride * element;
    std::memcpy(to + at, from + at, static_cast<std::size_t>(element));
  }
  if (shape.dtype != DType::kI8) return;
  constexpr auto kScale = static_cast<std::int64_t>(sizeof(float));
  std::memcpy(to_page + rows.scales_offset + to_slot * kScale, from_page + rows.scales_offset + from_slot * kScale,
              sizeof(float));
}

}  // namespace

void store_keys(const KvShape& shape, const KvSequence& sequence, std::int64_t head, std::int64_t first,
                std::int64_t count, std::int64_t row, RowsIn k) {
  store_rows(shape, key_rows(shape, head), sequence, first, count, row, k);
}

void store_values(const KvShape& shape, const KvSequence& sequence, std::int64_t head, std::int64_t first,
                  std::int64_t count, std::int64_t row, RowsIn v) {
  store_rows(shape, value_rows(shape, head), sequence, first, count, row, v);
}

void copy_token(const KvShape& shape, const std::byte* from_page, std::int64_t from_slot, std::byte* to_page,
                std::int64_t to_slot) {
  for (std::int64_t head = 0; head < shape.key_heads; ++head) {
    copy_rows(shape, key_rows(shape, head), from_page, from_slot, to_page, to_slot);
  }
  for (std::int64_t head = 0; head < shape.value_heads; ++head) {
    copy_rows(shape, value_rows(shape, head), from_page, from_slot, to_page, to_slot);
  }
}

}  // namespace krait::kernels
