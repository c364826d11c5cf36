// The loop of elementwise work: whole vectors, then what is left in part.
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

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
