// Integer dot products of four: acc[i] += sum over j < 4 of codes[i][j] x[i][j], where `codes` holds unsigned bytes, x
// signed ones in [-127, 127], and acc int32. The one place that knows the instructions.
//
// Codes of at most 6 bits never overflow pairs of products in 16 bits (2 * 63 * 127 < 2^15). Codes of 8 bits, w + 128,
// would: VNNI multiplies them as they are and the caller takes 128 sum(x) away (kWideZero); the others turn them back
// into w, multiply |x| by w with the sign of x, and use that |x|, |w| <= 127.
#if defined(KRAIT_KERNELS_SIMD_DOT_INT8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_DOT_INT8_INL_H_
#undef KRAIT_KERNELS_SIMD_DOT_INT8_INL_H_
#else
#define KRAIT_KERNELS_SIMD_DOT_INT8_INL_H_
#endif

#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

using I32 = hn::RebindToSigned<F32>;
using VecI32 = hn::Vec<I32>;
using U8 = hn::Repartition<std::uint8_t, F32>;
using VecU8 = hn::Vec<U8>;

// Four signed bytes in every lane.
HWY_INLINE VecI32 broadcast_four(const std::int8_t* x) {
  std::int32_t word;
  std::memcpy(&word, x, sizeof word);
  return hn::Set(I32(), word);
}

// Pairs of products in 16 bits: what every target has.
struct DotPairs {
  // Codes of 8 bits count from here: subtract this times the sum of x.
  static constexpr std::int32_t kWideZero = 0;

  // Codes below 64.
  static HWY_INLINE VecI32 narrow(VecI32 acc, VecU8 codes, VecI32 x) {
#if HWY_TARGET == HWY_AVX3
    const __m512i pairs = _mm512_maddubs_epi16(codes.raw, x.raw);
    return VecI32{_mm512_add_epi32(acc.raw, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
#elif HWY_TARGET == HWY_AVX2
    const __m256i pairs = _mm256_maddubs_epi16(codes.raw, x.raw);
    return VecI32{_mm256_add_epi32(acc.raw, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
#elif HWY_TARGET == HWY_SSE4
    const __m128i pairs = _mm_maddubs_epi16(codes.raw, x.raw);
    return VecI32{_mm_add_epi32(acc.raw, _mm_madd_epi16(pairs, _mm_set1_epi16(1)))};
#else
    return signed_bytes(acc, codes, x);
#endif
  }

  // Codes w + 128 with |w| <= 127.
  static HWY_INLINE VecI32 wide(VecI32 acc, VecU8 codes, VecI32 x) {
    const VecU8 w = hn::Xor(codes, hn::Set(U8(), 0x80));
#if HWY_TARGET == HWY_AVX3
    const __mmask64 negative = _mm512_movepi8_mask(x.raw);
    const __m512i moved = _mm512_mask_sub_epi8(w.raw, negative, _mm512_setzero_si512(), w.raw);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(x.raw), moved);
    return VecI32{_mm512_add_epi32(acc.raw, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
#elif HWY_TARGET == HWY_AVX2
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x.raw), _mm256_sign_epi8(w.raw, x.raw));
    return VecI32{_mm256_add_epi32(acc.raw, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
#elif HWY_TARGET == HWY_SSE4
    const __m128i pairs = _mm_maddubs_epi16(_mm_abs_epi8(x.raw), _mm_sign_epi8(w.raw, x.raw));
    return VecI32{_mm_add_epi32(acc.raw, _mm_madd_epi16(pairs, _mm_set1_epi16(1)))};
#else
    return signed_bytes(acc, w, x);
#endif
  }

 private:
#if HWY_TARGET != HWY_AVX3 && HWY_TARGET != HWY_AVX2 && HWY_TARGET != HWY_SSE4
  static HWY_INLINE VecI32 signed_bytes(VecI32 acc, VecU8 bytes, VecI32 x) {
#if HWY_ARCH_ARM_A64
    const int8x16_t w = vreinterpretq_s8_u8(bytes.raw);
    const int8x16_t v = vreinterpretq_s8_s32(x.raw);
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(v)));
    const int32x4_t high = vpaddlq_s16(vmull_high_s8(w, v));
    return VecI32(vaddq_s32(acc.raw, vpaddq_s32(low, high)));
#else
    // Even and odd bytes as 16-bit numbers; two products of at most 127^2 fit 16 bits together.
    const hn::Repartition<std::int16_t, F32> di16;
    const auto w = hn::BitCast(di16, bytes);
    const auto v = hn::BitCast(di16, x);
    const auto even = hn::Mul(hn::ShiftRight<8>(hn::ShiftLeft<8>(w)), hn::ShiftRight<8>(hn::ShiftLeft<8>(v)));
    const auto sum = hn::BitCast(I32(), hn::Add(even, hn::Mul(hn::ShiftRight<8>(w), hn::ShiftRight<8>(v))));
    return hn::Add(acc, hn::Add(hn::ShiftRight<16>(hn::ShiftLeft<16>(sum)), hn::ShiftRight<16>(sum)));
#endif
  }
#endif
};

#undef KRAIT_DOT_VNNI
#if HWY_TARGET == HWY_AVX3
#define KRAIT_DOT_VNNI 1
// One instruction for the four products of a lane. A variant within AVX3, taken at run time where the CPU has it
// (simd_target.h), since Highway's target with VNNI asks the compiler for more than its CPUs have (AVX-VNNI). In
// assembly because the compiler's intrinsic wants that target.
struct DotVnni {
  static constexpr std::int32_t kWideZero = 128;

  static HWY_INLINE VecI32 narrow(VecI32 acc, VecU8 codes, VecI32 x) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc.raw) : "v"(codes.raw), "v"(x.raw));
    return acc;
  }
  static HWY_INLINE VecI32 wide(VecI32 acc, VecU8 codes, VecI32 x) { return narrow(acc, codes, x); }
};
#else
#define KRAIT_DOT_VNNI 0
#endif

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
