// The states of one vector of channels in S4D's scan, out of arrays [M, 2, C] and into scratch [M, 2, lanes].
#if defined(KRAIT_KERNELS_SIMD_S4D_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_S4D_ROWS_INL_H_
#undef KRAIT_KERNELS_SIMD_S4D_ROWS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_S4D_ROWS_INL_H_
#endif

#include "krait/kernels/scan_s4d_task.h"
#include "krait/kernels/simd/complex-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

inline constexpr auto kState = static_cast<std::int64_t>(2 * kLanes);  // floats

HWY_INLINE ComplexF32 load_state(const float* states, std::int64_t m) {
  return {hn::Load(F32(), states + m * kState), hn::Load(F32(), states + m * kState + kLanes)};
}
HWY_INLINE void store_state(ComplexF32 v, float* states, std::int64_t m) {
  hn::Store(v.re, F32(), states + m * kState);
  hn::Store(v.im, F32(), states + m * kState + kLanes);
}

// One vector of channels, `count` of them when in part.
template <bool kWhole>
struct S4dVector {
  std::int64_t channels, states, first;
  std::size_t count;

  HWY_INLINE VecF32 load_row(const float* row) const { return load<kWhole>(row + first, count); }
  HWY_INLINE void store_row(VecF32 v, float* row) const { store<kWhole>(v, row + first, count); }
  HWY_INLINE void gather(const float* from, float* scratch) const {
    for (std::int64_t i = 0; i < 2 * states; ++i) {
      const VecF32 v = from == nullptr ? hn::Zero(F32()) : load_row(from + i * channels);
      hn::Store(v, F32(), scratch + i * static_cast<std::int64_t>(kLanes));
    }
  }
  HWY_INLINE void scatter(const float* scratch, float* to) const {
    for (std::int64_t i = 0; i < 2 * states; ++i) {
      store_row(hn::Load(F32(), scratch + i * static_cast<std::int64_t>(kLanes)), to + i * channels);
    }
  }
};

// Calls body(count, m) for states that cover [0, states), kTogether of them at once or one; `count` a
// std::integral_constant.
template <std::int64_t kTogether, class Body>
HWY_INLINE void for_states(std::int64_t states, Body&& body) {
  std::int64_t m = 0;
  for (; m + kTogether <= states; m += kTogether) body(std::integral_constant<std::int64_t, kTogether>(), m);
  for (; m < states; ++m) body(std::integral_constant<std::int64_t, 1>(), m);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
