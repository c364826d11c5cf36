#include "krait/kernels/activation_rounding.h"

#include <algorithm>
#include <cmath>

#include "krait/core/check.h"

namespace krait::kernels {
namespace {

void round_block32(const float* x, float* y) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float scale = largest / 127.0F;
  const float inverse = scale != 0 ? 1.0F / scale : 0.0F;
  const float kept = f16_to_f32(f32_to_f16(scale));
  for (int i = 0; i < 32; ++i) y[i] = std::nearbyint(x[i] * inverse) * kept;
}

void round_block256(const float* x, float* y) {
  const float* extreme = std::max_element(x, x + 256, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  if (*extreme == 0) {
    std::fill_n(y, 256, 0.0F);
    return;
  }
  const float inverse = -127.0F / *extreme;
  const float scale = 1.0F / inverse;
  for (int i = 0; i < 256; ++i) y[i] = std::min(127.0F, std::nearbyint(x[i] * inverse)) * scale;
}

std::int64_t block_length(ActivationFormat format) {
  return format == ActivationFormat::kQ8Block32 ? 32 : format == ActivationFormat::kQ8Block256 ? 256 : 1;
}

void round_row(ActivationFormat format, const float* x, std::int64_t columns, float* y) {
  switch (format) {
    case ActivationFormat::kF32: std::copy_n(x, columns, y); break;
    case ActivationFormat::kBF16:
      for (std::int64_t i = 0; i < columns; ++i) y[i] = bf16_to_f32(f32_to_bf16(x[i]));
      break;
    case ActivationFormat::kF16:
      for (std::int64_t i = 0; i < columns; ++i) y[i] = f16_to_f32(f32_to_f16(x[i]));
      break;
    case ActivationFormat::kQ8Block32:
      for (std::int64_t i = 0; i < columns; i += 32) round_block32(x + i, y + i);
      break;
    case ActivationFormat::kQ8Block256:
      for (std::int64_t i = 0; i < columns; i += 256) round_block256(x + i, y + i);
      break;
  }
}

}  // namespace

ActivationFormat activation_format_of(DType weights) {
  switch (weights) {
    case DType::kBF16: return ActivationFormat::kBF16;
    case DType::kF16: return ActivationFormat::kF16;
    case DType::kQ8_0:
    case DType::kQ4_0: return ActivationFormat::kQ8Block32;
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K: return ActivationFormat::kQ8Block256;
    default: return ActivationFormat::kF32;
  }
}

void round_activations(ThreadPool& pool, ActivationFormat format, RowsIn x, RowsOut y) {
  KRAIT_CHECK(x.columns % block_length(format) == 0, "{} columns are not whole blocks of {}", x.columns,
              block_length(format));
  pool.parallel_for(x.rows, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) round_row(format, x.row(r), x.columns, y.row(r));
  });
}

}  // namespace krait::kernels
