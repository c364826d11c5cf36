// Vector exp, sigmoid, silu and softplus in f32.
//
// exp(x): n = round(x / ln 2), r = x - n ln 2 in two parts (Cody & Waite 1980), |r| <= 0.3467, then
//   e^r ~ 1 + r + r^2 q(r), q of degree 4, minimax in relative error (5e-2 of 2^-24, far below the roundings),
// and a scaling by 2^n that is right into the subnormals and to infinity. At most 1 ulp over the normal range, with
// and without fused multiply-add (tests/kernels/exp_test.cpp walks it densely: 0.996 and 0.961). Below -104 the
// result is 0, above 88.73 infinity; NaN stays NaN.
//
// log1p(u), u in [0, 1], through s = u / (2 + u): log1p(u) = 2 atanh(s) = 2 s (1 + s^2 w(s^2)), s^2 <= 1/9, w of
// degree 3, minimax (8e-2 of 2^-24). Nothing cancels, so small u keep their full relative accuracy.
#if defined(KRAIT_KERNELS_SIMD_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_EXP_INL_H_
#undef KRAIT_KERNELS_SIMD_EXP_INL_H_
#else
#define KRAIT_KERNELS_SIMD_EXP_INL_H_
#endif

#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// max(low, v) and min(high, v) where NaN stays NaN: x86 gives the second operand when one is NaN, Arm the other one.
HWY_INLINE VecF32 at_least(VecF32 low, VecF32 v) {
#if HWY_ARCH_X86
  return hn::Max(low, v);
#else
  return hn::IfThenElse(hn::Lt(v, low), low, v);
#endif
}

HWY_INLINE VecF32 at_most(VecF32 high, VecF32 v) {
#if HWY_ARCH_X86
  return hn::Min(high, v);
#else
  return hn::IfThenElse(hn::Gt(v, high), high, v);
#endif
}

// v * 2^n for whole n in [-150, 129], given as float. (AVX-512 has it as one instruction, for any n.)
HWY_INLINE VecF32 scale_by_power(VecF32 v, VecF32 n) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  return VecF32{_mm512_scalef_ps(v.raw, n.raw)};
#else
  // In two halves, since 2^n itself may be out of range. The first product is exact.
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const auto whole = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(whole);
  const auto bias = hn::Set(di, 127);
  const auto first = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const auto second = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), bias)));
  return hn::Mul(hn::Mul(v, first), second);
#endif
}

// 2^v for kCount vectors at once, in place: f = v - round(v), 2^f ~ 1 + f q(f), q of degree 5, minimax (3e-2 of 2^-24).
// The error goes to zero with f: a decay close to 1 is as good as rounding allows. Below 2^-149 the result is 0, above
// 2^128 infinity. For callers that multiply by 1 / ln 2 beforehand: e^x = 2^(x / ln 2) is then within |x| + 2 ulp.
// Written side by side, the chains of dependent operations hide each other's latency.
template <std::size_t kCount>
HWY_INLINE void exp2_f32(VecF32 (&v)[kCount]) {
  const F32 d;
  VecF32 n[kCount], p[kCount];
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  // The fraction is one instruction, and nothing overflows on the way: infinities scale 1.
  for (std::size_t i = 0; i < kCount; ++i) n[i] = v[i];
  for (std::size_t i = 0; i < kCount; ++i) v[i] = VecF32{_mm512_reduce_ps(v[i].raw, 0)};
  for (std::size_t i = 0; i < kCount; ++i) n[i] = hn::Sub(n[i], v[i]);
#else
  const VecF32 low = hn::Set(d, -150.0F), high = hn::Set(d, 128.0F), shift = hn::Set(d, 12582912.0F);
  for (std::size_t i = 0; i < kCount; ++i) v[i] = at_most(high, at_least(low, v[i]));
  for (std::size_t i = 0; i < kCount; ++i) n[i] = hn::Add(v[i], shift);
  for (std::size_t i = 0; i < kCount; ++i) n[i] = hn::Sub(n[i], shift);
  for (std::size_t i = 0; i < kCount; ++i) v[i] = hn::Sub(v[i], n[i]);
#endif
  for (std::size_t i = 0; i < kCount; ++i) {
    p[i] = hn::MulAdd(hn::Set(d, 0.00015353340131696314F), v[i], hn::Set(d, 0.0013398900628089905F));
  }
  for (std::size_t i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 0.009618437848985195F));
  for (std::size_t i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 0.055503323674201965F));
  for (std::size_t i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 0.24022647738456726F));
  for (std::size_t i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 0.6931471824645996F));
  for (std::size_t i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 1.0F));
  for (std::size_t i = 0; i < kCount; ++i) v[i] = scale_by_power(p[i], n[i]);
}

HWY_INLINE VecF32 exp_f32(VecF32 x) {
  const F32 d;
  x = at_most(hn::Set(d, 89.0F), at_least(hn::Set(d, -104.0F), x));
  // Adding 1.5 * 2^23 rounds to a whole number, since |x / ln 2| < 2^22.
  const VecF32 shift = hn::Set(d, 12582912.0F);
  const VecF32 n = hn::Sub(hn::MulAdd(x, hn::Set(d, 1.44269504088896341F), shift), shift);
  // ln 2 = kHigh + kLow; kHigh has 15 significant bits, so n kHigh is exact.
  VecF32 r = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125F), x);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860682030941723e-6F), r);
  VecF32 p = hn::Set(d, 0.0013814581325277686F);
  p = hn::MulAdd(p, r, hn::Set(d, 0.008368724025785923F));
  p = hn::MulAdd(p, r, hn::Set(d, 0.04166838899254799F));
  p = hn::MulAdd(p, r, hn::Set(d, 0.1666652113199234F));
  p = hn::MulAdd(p, r, hn::Set(d, 0.4999999403953552F));
  p = hn::MulAdd(hn::Mul(p, r), r, r);
  return scale_by_power(hn::Add(p, hn::Set(d, 1.0F)), n);
}

HWY_INLINE VecF32 log1p_unit_f32(VecF32 u) {
  const F32 d;
  const VecF32 s = hn::Div(u, hn::Add(u, hn::Set(d, 2.0F)));
  const VecF32 z = hn::Mul(s, s);
  VecF32 w = hn::Set(d, 0.14012573659420013F);
  w = hn::MulAdd(w, z, hn::Set(d, 0.1399950534105301F));
  w = hn::MulAdd(w, z, hn::Set(d, 0.20010852813720703F));
  w = hn::MulAdd(w, z, hn::Set(d, 0.3333320617675781F));
  const VecF32 twice = hn::Add(s, s);
  return hn::MulAdd(hn::Mul(twice, z), w, twice);
}

HWY_INLINE VecF32 sigmoid_f32(VecF32 x) {
  const F32 d;
  const VecF32 one = hn::Set(d, 1.0F);
  return hn::Div(one, hn::Add(one, exp_f32(hn::Neg(x))));
}

HWY_INLINE VecF32 silu_f32(VecF32 x) {
  const F32 d;
  return hn::Div(x, hn::Add(hn::Set(d, 1.0F), exp_f32(hn::Neg(x))));
}

// log(1 + e^x) = max(x, 0) + log1p(e^-|x|); x itself above 20, where the difference is below half an ulp anyway.
HWY_INLINE VecF32 softplus_f32(VecF32 x) {
  const F32 d;
  const VecF32 small = hn::Add(hn::Max(hn::Zero(d), x), log1p_unit_f32(exp_f32(hn::Neg(hn::Abs(x)))));
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, 20.0F)), x, small);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
