// Loads and stores of part of a vector, and loads of stored weights widened to f32. Never touches memory past
// `count` elements, so rows may end at the end of a page.
//
// Per-target file: no include guard of the usual kind.
#if defined(KRAIT_KERNELS_SIMD_LOAD_STORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_LOAD_STORE_INL_H_
#undef KRAIT_KERNELS_SIMD_LOAD_STORE_INL_H_
#else
#define KRAIT_KERNELS_SIMD_LOAD_STORE_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using VecF32 = hn::Vec<F32>;
inline constexpr std::size_t kLanes = hn::MaxLanes(F32());

#undef KRAIT_MASKED_MOVES
// Masked moves leave the other lanes' memory alone only where the instruction set has them.
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
#define KRAIT_MASKED_MOVES 1
#else
#define KRAIT_MASKED_MOVES 0
#endif

// The first `count` < lanes floats; the other lanes are zero.
HWY_INLINE VecF32 load_part(const float* from, std::size_t count) {
  const F32 d;
#if KRAIT_MASKED_MOVES
  return hn::MaskedLoad(hn::FirstN(d, count), d, from);
#else
  HWY_ALIGN float lanes[kLanes] = {};
  std::memcpy(lanes, from, count * sizeof(float));
  return hn::Load(d, lanes);
#endif
}

HWY_INLINE void store_part(VecF32 v, float* to, std::size_t count) {
  const F32 d;
#if KRAIT_MASKED_MOVES
  hn::BlendedStore(v, hn::FirstN(d, count), d, to);
#else
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, d, lanes);
  std::memcpy(to, lanes, count * sizeof(float));
#endif
}

// kWhole: all lanes; otherwise the first `count`. One body of a kernel then serves both.
template <bool kWhole>
HWY_INLINE VecF32 load(const float* from, std::size_t count) {
  if constexpr (kWhole) {
    (void)count;
    return hn::LoadU(F32(), from);
  } else {
    return load_part(from, count);
  }
}

template <bool kWhole>
HWY_INLINE void store(VecF32 v, float* to, std::size_t count) {
  if constexpr (kWhole) {
    (void)count;
    hn::StoreU(v, F32(), to);
  } else {
    store_part(v, to, count);
  }
}

// to += v.
template <bool kWhole>
HWY_INLINE void add_into(VecF32 v, float* to, std::size_t count) {
  store<kWhole>(hn::Add(load<kWhole>(to, count), v), to, count);
}

// Element types of stored weights. Each says how many bytes an element takes and widens a vector of them.
struct WeightF32 {
  static constexpr std::size_t kBytes = 4;
  static HWY_INLINE VecF32 load(const std::byte* from) {
    return hn::LoadU(F32(), reinterpret_cast<const float*>(from));
  }
  static HWY_INLINE VecF32 load_part(const std::byte* from, std::size_t count) {
    HWY_ALIGN float whole[kLanes] = {};  // a float* at an odd address is only good for whole unaligned loads
    std::memcpy(whole, from, count * kBytes);
    return hn::Load(F32(), whole);
  }
};

struct WeightBF16 {
  static constexpr std::size_t kBytes = 2;
  static HWY_INLINE VecF32 load(const std::byte* from) {
    const hn::Rebind<std::uint16_t, F32> d16;
    const hn::RebindToUnsigned<F32> d32;
    const auto narrow = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(from));
    return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(d32, narrow)));
  }
  static HWY_INLINE VecF32 load_part(const std::byte* from, std::size_t count) {
    alignas(64) std::byte whole[kLanes * kBytes] = {};
    std::memcpy(whole, from, count * kBytes);
    return load(whole);
  }
};

struct WeightF16 {
  static constexpr std::size_t kBytes = 2;
  static HWY_INLINE VecF32 load(const std::byte* from) {
    const hn::Rebind<hwy::float16_t, F32> d16;
    return hn::PromoteTo(F32(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
  }
  static HWY_INLINE VecF32 load_part(const std::byte* from, std::size_t count) {
    alignas(64) std::byte whole[kLanes * kBytes] = {};
    std::memcpy(whole, from, count * kBytes);
    return load(whole);
  }
};

// The sum of all lanes, always in the same order.
HWY_INLINE float sum_lanes(VecF32 v) { return hn::GetLane(hn::SumOfLanes(F32(), v)); }

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
