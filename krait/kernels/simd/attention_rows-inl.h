// The softmax of attention, one row of scores of a page of 64 tokens at a time: what is in view, and the running
// maximum and sum. Scores are in units of ln 2.
#if defined(KRAIT_KERNELS_SIMD_ATTENTION_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_ATTENTION_ROWS_INL_H_
#undef KRAIT_KERNELS_SIMD_ATTENTION_ROWS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_ATTENTION_ROWS_INL_H_
#endif

#include "krait/kernels/kv_page.h"
#include "krait/kernels/simd/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// The vectors of one row of scores.
inline constexpr std::size_t kPageVectors = kKvPageTokens / kLanes;
// Less than any score, and far from overflow when a score is taken from it.
inline constexpr float kNoScore = -1e38F;

// Slots of a page that a row sees: [from, to), or of chosen tokens those that live in this row.
struct SlotsInView {
  std::int64_t from = 0, to = kKvPageTokens;
  const float* lifetimes = nullptr;  // 64 first rows, 64 end rows
  float row = 0.0F;
};

// Softmax of one row of scores brought up to date by the slots in view. Leaves e^(score - maximum) in `scores`, times
// `value_scales` where there are any, and multiplies the row's sums by what the maximum grew.
HWY_INLINE void update_row(float* scores, const SlotsInView& view, const float* key_scales, const float* value_scales,
                           float* sums, std::int64_t width, float& maximum, float& sum) {
  const F32 d;
  VecF32 s[kPageVectors];
  VecF32 largest = hn::Set(d, maximum);
  for (std::size_t j = 0; j < kPageVectors; ++j) {
    s[j] = hn::LoadU(d, scores + j * kLanes);
    if (key_scales != nullptr) s[j] = hn::Mul(s[j], hn::LoadU(d, key_scales + j * kLanes));
  }
  const VecF32 unseen = hn::Set(d, 2.0F * kNoScore);
  if (view.lifetimes != nullptr) {
    const VecF32 row = hn::Set(d, view.row);
    for (std::size_t j = 0; j < kPageVectors; ++j) {
      const VecF32 first = hn::LoadU(d, view.lifetimes + j * kLanes);
      const VecF32 end = hn::LoadU(d, view.lifetimes + kKvPageTokens + j * kLanes);
      s[j] = hn::IfThenElse(hn::And(hn::Le(first, row), hn::Lt(row, end)), s[j], unseen);
    }
  } else if (view.from > 0 || view.to < kKvPageTokens) {
    const VecF32 low = hn::Set(d, static_cast<float>(view.from)), high = hn::Set(d, static_cast<float>(view.to));
    for (std::size_t j = 0; j < kPageVectors; ++j) {
      const VecF32 slot = hn::Iota(d, static_cast<float>(j * kLanes));
      s[j] = hn::IfThenElse(hn::And(hn::Ge(slot, low), hn::Lt(slot, high)), s[j], unseen);
    }
  }
  for (std::size_t j = 0; j < kPageVectors; ++j) largest = hn::Max(largest, s[j]);
  const float grown = hn::GetLane(hn::MaxOfLanes(d, largest));
  VecF32 total = hn::Zero(d);
  const VecF32 top = hn::Set(d, grown);
  for (std::size_t j = 0; j < kPageVectors; ++j) s[j] = hn::Sub(s[j], top);
  exp2_f32(s);
  for (std::size_t j = 0; j < kPageVectors; ++j) {
    total = hn::Add(total, s[j]);
    if (value_scales != nullptr) s[j] = hn::Mul(s[j], hn::LoadU(d, value_scales + j * kLanes));
    hn::StoreU(s[j], d, scores + j * kLanes);
  }
  if (grown != maximum) {
    VecF32 factor[1] = {hn::Set(d, maximum - grown)};
    exp2_f32(factor);
    for (std::int64_t i = 0; i < width; i += static_cast<std::int64_t>(kLanes)) {
      hn::StoreU(hn::Mul(hn::LoadU(d, sums + i), factor[0]), d, sums + i);
    }
    sum *= hn::GetLane(factor[0]);
    maximum = grown;
  }
  sum += sum_lanes(total);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
