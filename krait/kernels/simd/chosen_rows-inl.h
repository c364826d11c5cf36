// Sums and products over rows of a matrix that a list names: a weighted sum of them, and what each gives with a vector.
#if defined(KRAIT_KERNELS_SIMD_CHOSEN_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_CHOSEN_ROWS_INL_H_
#undef KRAIT_KERNELS_SIMD_CHOSEN_ROWS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_CHOSEN_ROWS_INL_H_
#endif

#include <span>

#include "krait/kernels/rows.h"
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Sums in flight, which hide each other's latency.
inline constexpr std::size_t kChosenVectors = 8;

template <std::size_t kCount, bool kWhole, class Take>
HWY_INLINE void sum_chosen_columns(RowsIn matrix, std::span<const std::int32_t> rows, const float* weights,
                                   std::int64_t at, std::size_t part, Take& take) {
  VecF32 sum[kCount];
  for (std::size_t j = 0; j < kCount; ++j) sum[j] = hn::Zero(F32());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const VecF32 weight = hn::Set(F32(), weights[i]);
    const float* const from = matrix.row(rows[i]) + at;
    for (std::size_t j = 0; j < kCount; ++j) sum[j] = hn::MulAdd(weight, load<kWhole>(from + j * kLanes, part), sum[j]);
  }
  for (std::size_t j = 0; j < kCount; ++j) {
    take(std::bool_constant<kWhole>(), at + static_cast<std::int64_t>(j * kLanes), part, sum[j]);
  }
}

// take(whole, column, count, sum_i weights[i] row(rows[i])[column …]) for all columns, in vectors of which the last may
// be in part. Each is one chain over i.
template <class Take>
HWY_INLINE void sum_chosen_rows(RowsIn matrix, std::span<const std::int32_t> rows, const float* weights, Take&& take) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  constexpr std::int64_t kBlock = static_cast<std::int64_t>(kChosenVectors) * lanes;
  std::int64_t at = 0;
  for (; at + kBlock <= matrix.columns; at += kBlock) {
    sum_chosen_columns<kChosenVectors, true>(matrix, rows, weights, at, kLanes, take);
  }
  for (; at + lanes <= matrix.columns; at += lanes) {
    sum_chosen_columns<1, true>(matrix, rows, weights, at, kLanes, take);
  }
  if (at < matrix.columns) {
    sum_chosen_columns<1, false>(matrix, rows, weights, at, static_cast<std::size_t>(matrix.columns - at), take);
  }
}

// products[i] = x . row(rows[i])
HWY_INLINE void multiply_chosen_rows(RowsIn matrix, std::span<const std::int32_t> rows, const float* x,
                                     float* products) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float* const row = matrix.row(rows[i]);
    constexpr std::size_t kSums = 4;
    VecF32 sum[kSums];
    for (std::size_t j = 0; j < kSums; ++j) sum[j] = hn::Zero(F32());
    std::int64_t at = 0;
    for (; at + static_cast<std::int64_t>(kSums) * lanes <= matrix.columns;
         at += static_cast<std::int64_t>(kSums) * lanes) {
      for (std::size_t j = 0; j < kSums; ++j) {
        sum[j] = hn::MulAdd(hn::LoadU(F32(), x + at + j * kLanes), hn::LoadU(F32(), row + at + j * kLanes), sum[j]);
      }
    }
    for (; at + lanes <= matrix.columns; at += lanes) {
      sum[0] = hn::MulAdd(hn::LoadU(F32(), x + at), hn::LoadU(F32(), row + at), sum[0]);
    }
    if (at < matrix.columns) {
      const auto part = static_cast<std::size_t>(matrix.columns - at);
      sum[1] = hn::MulAdd(load_part(x + at, part), load_part(row + at, part), sum[1]);
    }
    products[i] = sum_lanes(hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3])));
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
