#include "krait/kernels/layer_norm.h"

#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/row_grain.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/layer_norm.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

HWY_INLINE float mean_of(const float* x, std::size_t count) {
  const F32 d;
  VecF32 sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum = hn::Add(sum, hn::LoadU(d, x + i));
  if (i < count) sum = hn::Add(sum, load_part(x + i, count - i));
  return sum_lanes(sum) / static_cast<float>(count);
}

// About the mean, in a second pass: the difference of two sums of squares would cancel.
HWY_INLINE float variance_of(const float* x, float mean, std::size_t count) {
  const F32 d;
  const VecF32 centre = hn::Set(d, mean);
  VecF32 sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const VecF32 v = hn::Sub(hn::LoadU(d, x + i), centre);
    sum = hn::MulAdd(v, v, sum);
  }
  if (i < count) {
    // Lanes past the end hold zero, not the mean.
    const VecF32 v = hn::IfThenElseZero(hn::FirstN(d, count - i), hn::Sub(load_part(x + i, count - i), centre));
    sum = hn::MulAdd(v, v, sum);
  }
  return sum_lanes(sum) / static_cast<float>(count);
}

template <bool kWhole>
HWY_INLINE void normalise_at(const float* x, float mean, float scale, const float* weight, const float* bias, float* y,
                             std::size_t count) {
  const F32 d;
  VecF32 v = hn::Mul(hn::Sub(load<kWhole>(x, count), hn::Set(d, mean)), hn::Set(d, scale));
  if (weight != nullptr) v = hn::Mul(v, load<kWhole>(weight, count));
  if (bias != nullptr) v = hn::Add(v, load<kWhole>(bias, count));
  store<kWhole>(v, y, count);
}

// One group of one row.
void layer_norm_group(const float* x, const float* weight, const float* bias, float epsilon, float* y,
                      std::size_t count) {
  const float mean = mean_of(x, count);
  const float scale = 1.0F / std::sqrt(variance_of(x, mean, count) + epsilon);
  const auto from = [](const float* values, std::size_t i) { return values == nullptr ? nullptr : values + i; };
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    normalise_at<true>(x + i, mean, scale, from(weight, i), from(bias, i), y + i, kLanes);
  }
  if (i < count) normalise_at<false>(x + i, mean, scale, from(weight, i), from(bias, i), y + i, count - i);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(layer_norm_group);

}  // namespace

void layer_norm(ThreadPool& pool, const LayerNorm& norm, RowsIn x, RowsOut y) {
  KRAIT_CHECK_EQ(x.rows, y.rows);
  KRAIT_CHECK_EQ(x.columns, y.columns);
  KRAIT_CHECK(norm.groups > 0 && y.columns % norm.groups == 0, "{} columns in {} groups", y.columns, norm.groups);
  const std::int64_t width = y.columns / norm.groups;
  if (width == 0) return;
  pool.parallel_for(y.rows, rows_per_task(y.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t at = 0; at < y.columns; at += width) {
        HWY_DYNAMIC_DISPATCH(layer_norm_group)
        (x.row(row) + at, norm.weight == nullptr ? nullptr : norm.weight + at,
         norm.bias == nullptr ? nullptr : norm.bias + at, norm.epsilon, y.row(row) + at,
         static_cast<std::size_t>(width));
      }
    }
  });
}

}  // namespace krait::kernels
#endif
