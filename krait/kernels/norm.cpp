#include "krait/kernels/norm.h"

#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/row_grain.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/norm.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Four partial sums hide the latency of the additions; their order depends on `count` alone.
float sum_of_squares(const float* x, std::size_t count) {
  const F32 d;
  VecF32 sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  std::size_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    const VecF32 v0 = hn::LoadU(d, x + i), v1 = hn::LoadU(d, x + i + kLanes);
    const VecF32 v2 = hn::LoadU(d, x + i + 2 * kLanes), v3 = hn::LoadU(d, x + i + 3 * kLanes);
    sum0 = hn::MulAdd(v0, v0, sum0);
    sum1 = hn::MulAdd(v1, v1, sum1);
    sum2 = hn::MulAdd(v2, v2, sum2);
    sum3 = hn::MulAdd(v3, v3, sum3);
  }
  for (; i + kLanes <= count; i += kLanes) {
    const VecF32 v = hn::LoadU(d, x + i);
    sum0 = hn::MulAdd(v, v, sum0);
  }
  if (i < count) {
    const VecF32 v = load_part(x + i, count - i);
    sum1 = hn::MulAdd(v, v, sum1);
  }
  return sum_lanes(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)));
}

float inverse_rms(const float* x, float epsilon, std::size_t count) {
  return 1.0F / std::sqrt(sum_of_squares(x, count) / static_cast<float>(count) + epsilon);
}

template <bool kWhole>
HWY_INLINE void scale_at(const float* x, float scale, const float* weight, float* y, std::size_t count) {
  VecF32 v = hn::Mul(load<kWhole>(x, count), hn::Set(F32(), scale));
  if (weight != nullptr) v = hn::Mul(v, load<kWhole>(weight, count));
  store<kWhole>(v, y, count);
}

void rms_norm_row(const float* x, const float* weight, float epsilon, float* y, std::size_t count) {
  const float scale = inverse_rms(x, epsilon, count);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    scale_at<true>(x + i, scale, weight == nullptr ? nullptr : weight + i, y + i, kLanes);
  }
  if (i < count) scale_at<false>(x + i, scale, weight == nullptr ? nullptr : weight + i, y + i, count - i);
}

void add_rms_norm_row(float* residual, const float* delta, const float* weight, float epsilon, float* y,
                      std::size_t count) {
  const F32 d;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, residual + i), hn::LoadU(d, delta + i)), d, residual + i);
  }
  if (i < count) {
    store_part(hn::Add(load_part(residual + i, count - i), load_part(delta + i, count - i)), residual + i, count - i);
  }
  rms_norm_row(residual, weight, epsilon, y, count);
}

template <bool kWhole>
HWY_INLINE void gate_by_silu_at(const float* x, const float* gate, float* y, std::size_t count) {
  store<kWhole>(hn::Mul(load<kWhole>(x, count), silu_f32(load<kWhole>(gate, count))), y, count);
}

HWY_INLINE void gate_by_silu_row(const float* x, const float* gate, float* y, std::size_t count) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) gate_by_silu_at<true>(x + i, gate + i, y + i, kLanes);
  if (i < count) gate_by_silu_at<false>(x + i, gate + i, y + i, count - i);
}

// One group of one row; weight may be null.
void gated_rms_norm_row(const float* x, const float* gate, const float* weight, float epsilon, bool gate_first,
                        float* y, std::size_t count) {
  if (gate_first) {
    gate_by_silu_row(x, gate, y, count);
    rms_norm_row(y, weight, epsilon, y, count);
  } else {
    rms_norm_row(x, weight, epsilon, y, count);
    gate_by_silu_row(y, gate, y, count);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(rms_norm_row);
HWY_EXPORT(add_rms_norm_row);
HWY_EXPORT(gated_rms_norm_row);

}  // namespace

void rms_norm(ThreadPool& pool, RowsIn x, const float* weight, float epsilon, RowsOut y) {
  KRAIT_CHECK_EQ(x.rows, y.rows);
  KRAIT_CHECK_EQ(x.columns, y.columns);
  pool.parallel_for(x.rows, rows_per_task(x.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(rms_norm_row)
      (x.row(row), weight, epsilon, y.row(row), static_cast<std::size_t>(x.columns));
    }
  });
}

void add_rms_norm(ThreadPool& pool, RowsOut residual, RowsIn delta, const float* weight, float epsilon, RowsOut y) {
  KRAIT_CHECK_EQ(residual.rows, y.rows);
  KRAIT_CHECK_EQ(residual.columns, y.columns);
  KRAIT_CHECK_EQ(delta.rows, y.rows);
  KRAIT_CHECK_EQ(delta.columns, y.columns);
  pool.parallel_for(y.rows, rows_per_task(y.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(add_rms_norm_row)
      (residual.row(row), delta.row(row), weight, epsilon, y.row(row), static_cast<std::size_t>(y.columns));
    }
  });
}

void gated_rms_norm(ThreadPool& pool, RowsIn x, RowsIn gate, const float* weight, float epsilon, std::int64_t groups,
                    GateOrder order, RowsOut y) {
  KRAIT_CHECK_EQ(x.rows, y.rows);
  KRAIT_CHECK_EQ(x.columns, y.columns);
  KRAIT_CHECK_EQ(gate.rows, y.rows);
  KRAIT_CHECK_EQ(gate.columns, y.columns);
  KRAIT_CHECK(groups > 0 && y.columns % groups == 0, "{} columns in {} groups", y.columns, groups);
  const std::int64_t width = y.columns / groups;
  pool.parallel_for(y.rows, rows_per_task(y.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t group = 0; group < groups; ++group) {
        const std::int64_t at = group * width;
        HWY_DYNAMIC_DISPATCH(gated_rms_norm_row)
        (x.row(row) + at, gate.row(row) + at, weight == nullptr ? nullptr : weight + at, epsilon,
         order == GateOrder::kGateThenNorm, y.row(row) + at, static_cast<std::size_t>(width));
      }
    }
  });
}

}  // namespace krait::kernels
#endif
