// Real Fourier transforms of as many channels at once as a vector has lanes; the plan (fft_plan.h) says how.
//
// A point is two vectors, real parts and imaginary parts. A spectrum of n real values stands in pairs: pair k holds
// X[k] and conj X[n/2 - k], which is how both come out of the folded transform:
//   E = (Z[k] + conj Z[n/2-k]) / 2,  O = (Z[k] - conj Z[n/2-k]) / 2i,  X[k] = E + w O,  conj X[n/2-k] = E - w O,
// w = e^(-2 pi i k / n). A product of spectra is then a product of pairs, member by member.
#if defined(KRAIT_KERNELS_SIMD_FFT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_FFT_INL_H_
#undef KRAIT_KERNELS_SIMD_FFT_INL_H_
#else
#define KRAIT_KERNELS_SIMD_FFT_INL_H_
#endif

#include "krait/kernels/fft_plan.h"
#include "krait/kernels/simd/complex-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

inline constexpr auto kPoint = static_cast<std::int64_t>(2 * kLanes);  // floats

HWY_INLINE ComplexF32 load_complex(const float* from) {
  return {hn::Load(F32(), from), hn::Load(F32(), from + kLanes)};
}
HWY_INLINE void store_complex(ComplexF32 v, float* to) {
  hn::Store(v.re, F32(), to);
  hn::Store(v.im, F32(), to + kLanes);
}

// a_p <- sum_q a_q w^(pq), w = e^(-2 pi i / radix), or its conjugate in the inverse.
template <bool kInverse>
HWY_INLINE ComplexF32 turn_back(ComplexF32 a) {  // -i a, or i a
  if constexpr (kInverse) return {hn::Neg(a.im), a.re};
  return {a.im, hn::Neg(a.re)};
}
template <bool kInverse>
HWY_INLINE void butterfly(ComplexF32 (&a)[2]) {
  const ComplexF32 sum = a[0] + a[1];
  a[1] = a[0] - a[1];
  a[0] = sum;
}
template <bool kInverse>
HWY_INLINE void butterfly(ComplexF32 (&a)[3]) {
  const ComplexF32 sum = a[1] + a[2];
  const ComplexF32 turned = hn::Set(F32(), 0.866025403784438647F) * turn_back<kInverse>(a[1] - a[2]);
  const VecF32 minus_half = hn::Set(F32(), -0.5F);
  const ComplexF32 middle = {hn::MulAdd(minus_half, sum.re, a[0].re), hn::MulAdd(minus_half, sum.im, a[0].im)};
  a[0] = a[0] + sum;
  a[1] = middle + turned;
  a[2] = middle - turned;
}
template <bool kInverse>
HWY_INLINE void butterfly(ComplexF32 (&a)[4]) {
  const ComplexF32 even = a[0] + a[2], even_difference = a[0] - a[2];
  const ComplexF32 odd = a[1] + a[3], odd_difference = turn_back<kInverse>(a[1] - a[3]);
  a[0] = even + odd;
  a[1] = even_difference + odd_difference;
  a[2] = even - odd;
  a[3] = even_difference - odd_difference;
}
template <bool kInverse>
HWY_INLINE void butterfly(ComplexF32 (&a)[5]) {
  const VecF32 cos1 = hn::Set(F32(), 0.309016994374947424F), cos2 = hn::Set(F32(), -0.809016994374947424F);
  const VecF32 sin1 = hn::Set(F32(), 0.951056516295153572F), sin2 = hn::Set(F32(), 0.587785252292473129F);
  const ComplexF32 sum1 = a[1] + a[4], sum2 = a[2] + a[3];
  const ComplexF32 back1 = turn_back<kInverse>(a[1] - a[4]), back2 = turn_back<kInverse>(a[2] - a[3]);
  const ComplexF32 even1 = a[0] + (cos1 * sum1 + cos2 * sum2), even2 = a[0] + (cos2 * sum1 + cos1 * sum2);
  const ComplexF32 odd1 = sin1 * back1 + sin2 * back2, odd2 = sin2 * back1 - sin1 * back2;
  a[0] = a[0] + (sum1 + sum2);
  a[1] = even1 + odd1;
  a[2] = even2 + odd2;
  a[3] = even2 - odd2;
  a[4] = even1 - odd1;
}

template <int kRadix, bool kInverse>
void fft_stage(float* HWY_RESTRICT z, std::int64_t span, std::int64_t blocks, const float* HWY_RESTRICT roots) {
  const std::int64_t step = span * kPoint;
  ComplexF32 a[kRadix];
  if (span == 1) {
    for (std::int64_t block = 0; block < blocks; ++block, z += kRadix * kPoint) {
      for (int q = 0; q < kRadix; ++q) a[q] = load_complex(z + q * kPoint);
      butterfly<kInverse>(a);
      for (int q = 0; q < kRadix; ++q) store_complex(a[q], z + q * kPoint);
    }
    return;
  }
  for (std::int64_t block = 0; block < blocks; ++block, z += (kRadix - 1) * step) {
    const float* HWY_RESTRICT root = roots;
    for (std::int64_t j = 0; j < span; ++j, z += kPoint, root += 2 * (kRadix - 1)) {
      for (int q = 0; q < kRadix; ++q) a[q] = load_complex(z + q * step);
      if constexpr (kInverse) {
        for (int q = 1; q < kRadix; ++q) {
          a[q] = conjugate_times(set_complex(root[2 * q - 2], root[2 * q - 1]), a[q]);
        }
      }
      butterfly<kInverse>(a);
      if constexpr (!kInverse) {
        for (int q = 1; q < kRadix; ++q) a[q] = set_complex(root[2 * q - 2], root[2 * q - 1]) * a[q];
      }
      for (int q = 0; q < kRadix; ++q) store_complex(a[q], z + q * step);
    }
  }
}

template <bool kInverse>
HWY_INLINE void fft_any_stage(const FftPlan& plan, const FftPlan::Stage& stage, float* z, std::int64_t blocks) {
  const float* roots = plan.roots(stage);
  if (stage.radix == 4) return fft_stage<4, kInverse>(z, stage.span, blocks, roots);
  if (stage.radix == 2) return fft_stage<2, kInverse>(z, stage.span, blocks, roots);
  if (stage.radix == 3) return fft_stage<3, kInverse>(z, stage.span, blocks, roots);
  return fft_stage<5, kInverse>(z, stage.span, blocks, roots);
}

// The stages from `level` on of `blocks` blocks side by side: one block after the other while a block is larger than
// the first cache, all together below.
template <bool kInverse>
void fft_levels(const FftPlan& plan, std::size_t level, float* z, std::int64_t blocks) {
  constexpr std::int64_t kCacheFloats = 4096;
  if (level == plan.stages().size()) return;
  const FftPlan::Stage& stage = plan.stages()[level];
  const std::int64_t part = stage.span * kPoint;
  if constexpr (!kInverse) fft_any_stage<false>(plan, stage, z, blocks);
  if (blocks == 1 && stage.radix * part > kCacheFloats) {
    for (std::int64_t p = 0; p < stage.radix; ++p) fft_levels<kInverse>(plan, level + 1, z + p * part, 1);
  } else {
    fft_levels<kInverse>(plan, level + 1, z, blocks * stage.radix);
  }
  if constexpr (kInverse) fft_any_stage<true>(plan, stage, z, blocks);
}

// z: points() points, aligned. The inverse is points() times the true one.
HWY_INLINE void fft_forward(const FftPlan& plan, float* z) { fft_levels<false>(plan, 0, z, 1); }
HWY_INLINE void fft_inverse(const FftPlan& plan, float* z) { fft_levels<true>(plan, 0, z, 1); }

struct SpectrumPair {
  ComplexF32 low, high;  // X[k], conj X[n/2 - k]
};
HWY_INLINE SpectrumPair load_pair(const float* spectrum, std::int64_t pair) {
  return {load_complex(spectrum + 2 * pair * kPoint), load_complex(spectrum + (2 * pair + 1) * kPoint)};
}
HWY_INLINE void store_pair(SpectrumPair v, float* spectrum, std::int64_t pair) {
  store_complex(v.low, spectrum + 2 * pair * kPoint);
  store_complex(v.high, spectrum + (2 * pair + 1) * kPoint);
}

// Pair k of what fft_forward left in z.
HWY_INLINE SpectrumPair unfold_pair(const FftPlan& plan, const float* z, std::int64_t pair) {
  const VecF32 half = hn::Set(F32(), 0.5F);
  const ComplexF32 first = load_complex(z + plan.position(pair) * kPoint);
  const ComplexF32 second = conjugate(load_complex(z + plan.position(plan.partner(pair)) * kPoint));
  const ComplexF32 even = half * (first + second), odd = half * turn_back<false>(first - second);
  const ComplexF32 turned = set_complex(plan.fold_root(pair)[0], plan.fold_root(pair)[1]) * odd;
  return {even + turned, even - turned};
}
// The other way, for fft_inverse; twice the true value.
HWY_INLINE void fold_pair(const FftPlan& plan, SpectrumPair v, float* z, std::int64_t pair) {
  const ComplexF32 even = v.low + v.high;
  const ComplexF32 odd = conjugate_times(set_complex(plan.fold_root(pair)[0], plan.fold_root(pair)[1]), v.low - v.high);
  const ComplexF32 turned = turn_back<true>(odd);
  store_complex(conjugate(even - turned), z + plan.position(plan.partner(pair)) * kPoint);
  store_complex(even + turned, z + plan.position(pair) * kPoint);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
