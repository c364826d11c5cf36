// The loop of elementwise work: whole vectors, then what is left in part; and two such loops over rows of scratch that
// are padded to whole vectors.
#if defined(KRAIT_KERNELS_SIMD_FOR_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_FOR_VECTORS_INL_H_
#undef KRAIT_KERNELS_SIMD_FOR_VECTORS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_FOR_VECTORS_INL_H_
#endif

#include <type_traits>

#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Calls body(whole, i, count) for vectors that cover `count` values; the last may be in part.
template <class Body>
HWY_INLINE void for_vectors(std::int64_t count, Body&& body) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(std::true_type(), i, kLanes);
  if (i < count) body(std::false_type(), i, static_cast<std::size_t>(count - i));
}

// sum_i left[i] right[i] of whole vectors.
HWY_INLINE float dot_padded(const float* left, const float* right, std::int64_t count) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const F32 d;
  VecF32 sum[2] = {hn::Zero(d), hn::Zero(d)};
  std::int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    sum[0] = hn::MulAdd(hn::LoadU(d, left + i), hn::LoadU(d, right + i), sum[0]);
    sum[1] = hn::MulAdd(hn::LoadU(d, left + i + lanes), hn::LoadU(d, right + i + lanes), sum[1]);
  }
  for (; i < count; i += lanes) sum[0] = hn::MulAdd(hn::LoadU(d, left + i), hn::LoadU(d, right + i), sum[0]);
  return sum_lanes(hn::Add(sum[0], sum[1]));
}

// to = by from, of whole vectors.
HWY_INLINE void scale_padded(const float* from, float by, std::int64_t count, float* to) {
  const F32 d;
  const VecF32 factor = hn::Set(d, by);
  for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(kLanes)) {
    hn::StoreU(hn::Mul(factor, hn::LoadU(d, from + i)), d, to + i);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
