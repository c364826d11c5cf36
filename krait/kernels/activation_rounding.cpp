#include "krait/kernels/activation_rounding.h"

#include <algorithm>
#include <cmath>

#include "krait/core/check.h"

namespace krait::kernels {
namespace {

float largest_magnitude(const float* x, std::int64_t count) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

void round_group(Q8Scale scale, const float* x, std::int64_t count, float* y) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = std::nearbyint(x[i] * scale.inverse) * scale.scale;
}

std::int64_t block_length(ActivationFormat format) { return format == ActivationFormat::kQ8Block256 ? 256 : 1; }

void round_row(ActivationFormat format, const float* x, std::int64_t columns, float* y) {
  switch (format) {
    case ActivationFormat::kF32: std::copy_n(x, columns, y); break;
    case ActivationFormat::kBF16:
      for (std::int64_t i = 0; i < columns; ++i) y[i] = bf16_to_f32(f32_to_bf16(x[i]));
      break;
    case ActivationFormat::kF16:
      for (std::int64_t i = 0; i < columns; ++i) y[i] = f16_to_f32(f32_to_f16(x[i]));
      break;
    case ActivationFormat::kQ8Row: round_group(q8_scale_row(largest_magnitude(x, columns)), x, columns, y); break;
    case ActivationFormat::kQ8Block32:
      for (std::int64_t i = 0; i < columns; i += 32) {
        const std::int64_t count = std::min<std::int64_t>(32, columns - i);
        round_group(q8_scale_block32(largest_magnitude(x + i, count)), x + i, count, y + i);
      }
      break;
    case ActivationFormat::kQ8Block256:
      for (std::int64_t i = 0; i < columns; i += 256) {
        round_group(q8_scale_block256(largest_magnitude(x + i, 256)), x + i, 256, y + i);
      }
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
