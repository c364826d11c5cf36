#include <algorithm>
#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/low_bit_row.h"

namespace krait::kernels {
namespace {

float rounded_half(float value) { return f16_to_f32(f32_to_f16(value)); }

// codes = round(w / scale) + zero within [low, high].
void encode(const float* weights, std::int64_t count, float scale, float zero, float low, float high,
            std::uint8_t* codes) {
  const float inverse = scale != 0 ? 1.0F / scale : 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    const float code = std::nearbyint(weights[i] * inverse) + zero;
    codes[i] = static_cast<std::uint8_t>(code >= low ? std::min(code, high) : low);  // NaN is low
  }
}

float largest_magnitude(const float* weights, std::int64_t count) {
  float largest = 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(weights[i])) return std::nanf("");
    largest = std::max(largest, std::fabs(weights[i]));
  }
  return largest;
}

// The scale of [-8, 7] for a group. Rounding clips the far end by up to half a step, so the best is found by trying.
float symmetric_scale(const float* weights, std::int64_t count) {
  const float largest = largest_magnitude(weights, count);
  if (!(largest > 0.0F)) return largest;
  const float* extreme =
      std::max_element(weights, weights + count, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  float best = 0.0F;
  double least = HUGE_VAL;
  for (int step = -6; step <= 6; ++step) {
    const float scale = rounded_half(*extreme / (-8.0F + 0.15F * static_cast<float>(step)));
    if (scale == 0.0F || !std::isfinite(scale)) continue;
    const float inverse = 1.0F / scale;
    double error = 0.0;
    for (std::int64_t i = 0; i < count; ++i) {
      const float code = std::clamp(std::nearbyint(weights[i] * inverse), -8.0F, 7.0F);
      const double off = double{code} * scale - weights[i];
      error += off * off;
    }
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

void quantize_with_zero(const float* weights, std::int64_t count, std::uint8_t* codes, std::uint16_t& scale_bits,
                        std::uint8_t& zero) {
  float low = 0.0F, high = 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    low = std::min(low, weights[i]);
    high = std::max(high, weights[i]);
  }
  const bool finite = !std::isnan(largest_magnitude(weights, count));
  scale_bits = f32_to_f16(finite ? (high - low) / 15.0F : std::nanf(""));
  const float scale = f16_to_f32(scale_bits);
  zero = scale > 0.0F ? static_cast<std::uint8_t>(std::clamp(std::nearbyint(-low / scale), 0.0F, 15.0F)) : 0;
  encode(weights, count, scale, zero, 0.0F, 15.0F, codes);
}

}  // namespace

void quantize_weights(PanelFormat format, const float* weights, std::int64_t columns, LowBitRow& row) {
  row.codes.resize(static_cast<std::size_t>(columns));
  if (format == PanelFormat::kInt8) {
    row.scale = largest_magnitude(weights, columns) / 127.0F;
    encode(weights, columns, row.scale, 128.0F, 1.0F, 255.0F, row.codes.data());
    return;
  }
  const std::int64_t group = scale_group(format);
  KRAIT_CHECK(!is_float(format) && group <= 128, "nothing rounds to {}", to_string(format));
  const auto groups = static_cast<std::size_t>((columns + group - 1) / group);
  row.scales.resize(groups);
  row.zeros.resize(groups);
  const bool zeros = format == PanelFormat::kInt4Group32Zero || format == PanelFormat::kInt4Group128Zero;
  for (std::size_t g = 0; g < groups; ++g) {
    const std::int64_t first = static_cast<std::int64_t>(g) * group;
    const std::int64_t count = std::min(group, columns - first);
    std::uint8_t* codes = row.codes.data() + first;
    if (zeros) {
      quantize_with_zero(weights + first, count, codes, row.scales[g], row.zeros[g]);
      continue;
    }
    const bool wide = format == PanelFormat::kInt8Block;
    row.scales[g] =
        f32_to_f16(wide ? largest_magnitude(weights + first, count) / 127.0F : symmetric_scale(weights + first, count));
    const float scale = f16_to_f32(row.scales[g]);
    if (wide) {
      encode(weights + first, count, scale, 128.0F, 1.0F, 255.0F, codes);
    } else {
      encode(weights + first, count, scale, 8.0F, 0.0F, 15.0F, codes);
    }
  }
}

}  // namespace krait::kernels
