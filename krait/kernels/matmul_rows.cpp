#include "krait/kernels/matmul_rows.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"
#include "krait/kernels/widen.h"
//
#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/matmul_rows.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Rows of x in one pass over a block of weights, at most.
inline constexpr std::int64_t kPassRows = kLanes >= 16 ? 8 : 4;

// Rows of W in a block beside kM rows of x: kM * block sums in registers (24 of 32, or 12 of 16), at least eight
// chains where that is possible, since a multiply-add takes four cycles and two start in each.
template <std::int64_t kM>
inline constexpr std::int64_t kBlockOutputs = std::min<std::int64_t>(8, (kLanes >= 16 ? 24 : 12) / kM);

// y[m, n] for kM rows and kN outputs, one vector of partial sums each.
template <class Weight, std::int64_t kM, std::int64_t kN>
HWY_INLINE void dot_block(const float* x, std::int64_t x_stride, const std::byte* weight, std::int64_t k_count,
                          const float* bias, float* y, std::int64_t y_stride) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  constexpr auto kBytes = static_cast<std::int64_t>(Weight::kBytes);
  const std::int64_t weight_stride = k_count * kBytes;
  VecF32 sum[kM][kN];
  for (std::int64_t m = 0; m < kM; ++m) {
    for (std::int64_t n = 0; n < kN; ++n) sum[m][n] = hn::Zero(d);
  }
  std::int64_t k = 0;
  for (; k + lanes <= k_count; k += lanes) {
    VecF32 w[kN];
    for (std::int64_t n = 0; n < kN; ++n) {
      const std::byte* from = weight + n * weight_stride + k * kBytes;
      // The block after this one: the rows are too short for the hardware to find all their streams.
      if constexpr (kM <= 4) hwy::Prefetch(from + kN * weight_stride);
      w[n] = Weight::load(from);
    }
    for (std::int64_t m = 0; m < kM; ++m) {
      const VecF32 xv = hn::LoadU(d, x + m * x_stride + k);
      for (std::int64_t n = 0; n < kN; ++n) sum[m][n] = hn::MulAdd(xv, w[n], sum[m][n]);
    }
  }
  if (k < k_count) {
    const auto rest = static_cast<std::size_t>(k_count - k);
    VecF32 w[kN];
    for (std::int64_t n = 0; n < kN; ++n) w[n] = Weight::load_part(weight + n * weight_stride + k * kBytes, rest);
    for (std::int64_t m = 0; m < kM; ++m) {
      const VecF32 xv = load_part(x + m * x_stride + k, rest);
      for (std::int64_t n = 0; n < kN; ++n) sum[m][n] = hn::MulAdd(xv, w[n], sum[m][n]);
    }
  }
  for (std::int64_t m = 0; m < kM; ++m) {
    for (std::int64_t n = 0; n < kN; ++n) {
      y[m * y_stride + n] = sum_lanes(sum[m][n]) + (bias == nullptr ? 0.0F : bias[n]);
    }
  }
}

template <class Weight, std::int64_t kM>
HWY_INLINE void dot_outputs(const float* x, std::int64_t x_stride, const std::byte* weight, std::int64_t k_count,
                            const float* bias, float* y, std::int64_t y_stride, std::int64_t outputs) {
  constexpr std::int64_t kN = kBlockOutputs<kM>;
  const std::int64_t weight_stride = k_count * static_cast<std::int64_t>(Weight::kBytes);
  std::int64_t n = 0;
  for (; n + kN <= outputs; n += kN) {
    dot_block<Weight, kM, kN>(x, x_stride, weight + n * weight_stride, k_count, bias == nullptr ? nullptr : bias + n,
                              y + n, y_stride);
  }
  for (; n < outputs; ++n) {
    dot_block<Weight, kM, 1>(x, x_stride, weight + n * weight_stride, k_count, bias == nullptr ? nullptr : bias + n,
                             y + n, y_stride);
  }
}

// All rows of x against `outputs` rows of W: a block of W stays in L1 while the rows of x pass over it.
template <class Weight>
HWY_INLINE void dot_rows(RowsIn x, const std::byte* weight, const float* bias, RowsOut y, std::int64_t outputs) {
  constexpr std::int64_t kResident = 24;  // outputs kept in cache between passes; a multiple of every block
  const std::int64_t weight_stride = x.columns * static_cast<std::int64_t>(Weight::kBytes);
  for (std::int64_t n = 0; n < outputs; n += kResident) {
    const std::int64_t count = std::min(kResident, outputs - n);
    const std::byte* w = weight + n * weight_stride;
    const float* b = bias == nullptr ? nullptr : bias + n;
    std::int64_t m = 0;
    if constexpr (kPassRows == 8) {
      for (; m + 8 <= x.rows; m += 8) {
        dot_outputs<Weight, 8>(x.row(m), x.stride, w, x.columns, b, y.row(m) + n, y.stride, count);
      }
    }
    for (; m + 4 <= x.rows; m += 4) {
      dot_outputs<Weight, 4>(x.row(m), x.stride, w, x.columns, b, y.row(m) + n, y.stride, count);
    }
    switch (x.rows - m) {
      case 3: dot_outputs<Weight, 3>(x.row(m), x.stride, w, x.columns, b, y.row(m) + n, y.stride, count); break;
      case 2: dot_outputs<Weight, 2>(x.row(m), x.stride, w, x.columns, b, y.row(m) + n, y.stride, count); break;
      case 1: dot_outputs<Weight, 1>(x.row(m), x.stride, w, x.columns, b, y.row(m) + n, y.stride, count); break;
      default: break;
    }
  }
}

void dot_rows_f32(RowsIn x, const std::byte* weight, const float* bias, RowsOut y, std::int64_t outputs) {
  dot_rows<WeightF32>(x, weight, bias, y, outputs);
}
void dot_rows_bf16(RowsIn x, const std::byte* weight, const float* bias, RowsOut y, std::int64_t outputs) {
  dot_rows<WeightBF16>(x, weight, bias, y, outputs);
}
void dot_rows_f16(RowsIn x, const std::byte* weight, const float* bias, RowsOut y, std::int64_t outputs) {
  dot_rows<WeightF16>(x, weight, bias, y, outputs);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(dot_rows_f32);
HWY_EXPORT(dot_rows_bf16);
HWY_EXPORT(dot_rows_f16);

}  // namespace

void linear_few_rows(ThreadPool& pool, RowsIn x, const WeightMatrix& weight, const float* bias, RowsOut y) {
  const std::int64_t row_bytes = weight.columns * weight_bytes(weight.dtype);
  // About 256 KiB of weights (some 10 µs) to a task, in whole blocks.
  const std::int64_t outputs =
      std::max<std::int64_t>(24, (std::int64_t{1} << 18) / std::max<std::int64_t>(1, row_bytes) / 24 * 24);
  pool.parallel_for(weight.rows, outputs, [&](std::int64_t begin, std::int64_t end) {
    const std::byte* w = weight.data + begin * row_bytes;
    const float* b = bias == nullptr ? nullptr : bias + begin;
    const RowsOut part = y.slice_columns(begin, end - begin);
    switch (weight.dtype) {
      case DType::kBF16: HWY_DYNAMIC_DISPATCH(dot_rows_bf16)(x, w, b, part, end - begin); return;
      case DType::kF16: HWY_DYNAMIC_DISPATCH(dot_rows_f16)(x, w, b, part, end - begin); return;
      default: HWY_DYNAMIC_DISPATCH(dot_rows_f32)(x, w, b, part, end - begin); return;
    }
  });
}

}  // namespace krait::kernels
#endif
