// Arithmetic on vectors of complex numbers, real and imaginary parts in a vector each.
#if defined(KRAIT_KERNELS_SIMD_COMPLEX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_COMPLEX_INL_H_
#undef KRAIT_KERNELS_SIMD_COMPLEX_INL_H_
#else
#define KRAIT_KERNELS_SIMD_COMPLEX_INL_H_
#endif

#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

struct ComplexF32 {
  VecF32 re, im;
};
// One complex number in all lanes.
HWY_INLINE ComplexF32 set_complex(float re, float im) { return {hn::Set(F32(), re), hn::Set(F32(), im)}; }
HWY_INLINE ComplexF32 operator+(ComplexF32 a, ComplexF32 b) { return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)}; }
HWY_INLINE ComplexF32 operator-(ComplexF32 a, ComplexF32 b) { return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)}; }
HWY_INLINE ComplexF32 operator*(VecF32 a, ComplexF32 b) { return {hn::Mul(a, b.re), hn::Mul(a, b.im)}; }
HWY_INLINE ComplexF32 operator*(ComplexF32 a, ComplexF32 b) {
  return {hn::NegMulAdd(a.im, b.im, hn::Mul(a.re, b.re)), hn::MulAdd(a.im, b.re, hn::Mul(a.re, b.im))};
}
// conj(a) b
HWY_INLINE ComplexF32 conjugate_times(ComplexF32 a, ComplexF32 b) {
  return {hn::MulAdd(a.im, b.im, hn::Mul(a.re, b.re)), hn::NegMulAdd(a.im, b.re, hn::Mul(a.re, b.im))};
}
HWY_INLINE ComplexF32 conjugate(ComplexF32 a) { return {a.re, hn::Neg(a.im)}; }
// a b + c and conj(a) b + c
HWY_INLINE ComplexF32 multiply_add(ComplexF32 a, ComplexF32 b, ComplexF32 c) {
  return {hn::NegMulAdd(a.im, b.im, hn::MulAdd(a.re, b.re, c.re)),
          hn::MulAdd(a.im, b.re, hn::MulAdd(a.re, b.im, c.im))};
}
HWY_INLINE ComplexF32 multiply_add(ComplexF32 a, VecF32 b, ComplexF32 c) {
  return {hn::MulAdd(a.re, b, c.re), hn::MulAdd(a.im, b, c.im)};
}
HWY_INLINE ComplexF32 conjugate_multiply_add(ComplexF32 a, ComplexF32 b, ComplexF32 c) {
  return {hn::MulAdd(a.im, b.im, hn::MulAdd(a.re, b.re, c.re)),
          hn::NegMulAdd(a.im, b.re, hn::MulAdd(a.re, b.im, c.im))};
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
