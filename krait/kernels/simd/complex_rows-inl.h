// Vectors of complex numbers out of rows that hold all real parts and then all imaginary parts.
#if defined(KRAIT_KERNELS_SIMD_COMPLEX_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_COMPLEX_ROWS_INL_H_
#undef KRAIT_KERNELS_SIMD_COMPLEX_ROWS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_COMPLEX_ROWS_INL_H_
#endif

#include "krait/kernels/simd/complex-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// kCount vectors of states from `first` on; without kWhole the only one has `count` numbers.
template <std::size_t kCount, bool kWhole>
struct ComplexRow {
  std::int64_t states, first;
  std::size_t count;

  HWY_INLINE void load_to(const float* row, ComplexF32 (&v)[kCount]) const {
    for (std::size_t i = 0; i < kCount; ++i) {
      const float* at = row + first + static_cast<std::int64_t>(i * kLanes);
      v[i] = {load<kWhole>(at, count), load<kWhole>(at + states, count)};
    }
  }
  HWY_INLINE void store_from(const ComplexF32 (&v)[kCount], float* row) const {
    for (std::size_t i = 0; i < kCount; ++i) {
      float* at = row + first + static_cast<std::int64_t>(i * kLanes);
      store<kWhole>(v[i].re, at, count);
      store<kWhole>(v[i].im, at + states, count);
    }
  }
};

// Calls body(row) for ComplexRows that cover states [begin, end): four vectors at a time, whose recurrences hide each
// other's latency, then one, then what is left.
template <class Body>
HWY_INLINE void for_complex_rows(std::int64_t states, std::int64_t begin, std::int64_t end, Body&& body) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  for (; begin + 4 * lanes <= end; begin += 4 * lanes) body(ComplexRow<4, true>{states, begin, kLanes});
  for (; begin + lanes <= end; begin += lanes) body(ComplexRow<1, true>{states, begin, kLanes});
  if (begin < end) body(ComplexRow<1, false>{states, begin, static_cast<std::size_t>(end - begin)});
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
