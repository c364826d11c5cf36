// The rotation of k and q of one head and row of trapezoidal_scan.
#if defined(KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROTATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROTATION_INL_H_
#undef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROTATION_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROTATION_INL_H_
#endif

#include "hwy/contrib/math/math-inl.h"
#include "krait/kernels/scan_trapezoidal_task.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Cosines and sines of a head's angles: [angles] each.
struct TrapezoidalRotation {
  float *cosines, *sines;
};

// theta += turn dt, then the tables.
static HWY_NOINLINE void trapezoidal_turn(const TrapezoidalScan& scan, const float* turn, float dt, float* theta,
                                          const TrapezoidalRotation& rotation) {
  const F32 d;
  const VecF32 step = hn::Set(d, dt);
  for_vectors(scan.angles, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    VecF32 v = hn::MulAdd(load<kWhole>(turn + i, part), step, load<kWhole>(theta + i, part));
    // Whole turns taken off, 2 pi in two parts: the sum stays accurate however long the sequence.
    const VecF32 turns = hn::Round(hn::Mul(v, hn::Set(d, 0.15915494309F)));
    v = hn::NegMulAdd(turns, hn::Set(d, 6.28318548202514648F), v);
    v = hn::NegMulAdd(turns, hn::Set(d, -1.74845553146e-7F), v);
    store<kWhole>(v, theta + i, part);
    store<kWhole>(hn::Cos(d, v), rotation.cosines + i, part);
    store<kWhole>(hn::Sin(d, v), rotation.sines + i, part);
  });
}

// a, b of pairs i …: turned by their angles.
template <bool kWhole>
HWY_INLINE void turn_pairs(const TrapezoidalRotation& rotation, std::int64_t i, std::size_t count, VecF32& a,
                           VecF32& b) {
  const VecF32 cosine = load<kWhole>(rotation.cosines + i, count), sine = load<kWhole>(rotation.sines + i, count);
  const VecF32 left = hn::NegMulAdd(b, sine, hn::Mul(a, cosine));
  b = hn::MulAdd(b, cosine, hn::Mul(a, sine));
  a = left;
}

// to [N] = Rot(normed + bias)
HWY_INLINE void trapezoidal_rotate(const TrapezoidalScan& scan, const float* normed, const float* bias,
                                   const TrapezoidalRotation& rotation, float* to) {
  const F32 d;
  const auto biased = [&](std::int64_t begin, std::int64_t end) {
    for_vectors(end - begin, [&](auto whole, std::int64_t i, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      const std::int64_t n = begin + i;
      store<kWhole>(hn::Add(load<kWhole>(normed + n, part), load<kWhole>(bias + n, part)), to + n, part);
    });
  };
  if (scan.halves) {
    const std::int64_t half = scan.states / 2;
    for_vectors(scan.angles, [&](auto whole, std::int64_t i, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 a = hn::Add(load<kWhole>(normed + i, part), load<kWhole>(bias + i, part));
      VecF32 b = hn::Add(load<kWhole>(normed + half + i, part), load<kWhole>(bias + half + i, part));
      turn_pairs<kWhole>(rotation, i, part, a, b);
      store<kWhole>(a, to + i, part);
      store<kWhole>(b, to + half + i, part);
    });
    biased(scan.angles, half);
    biased(half + scan.angles, scan.states);
    return;
  }
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  std::int64_t i = 0;
  for (; i + lanes <= scan.angles; i += lanes) {
    VecF32 a, b, bias_a, bias_b;
    hn::LoadInterleaved2(d, normed + 2 * i, a, b);
    hn::LoadInterleaved2(d, bias + 2 * i, bias_a, bias_b);
    a = hn::Add(a, bias_a);
    b = hn::Add(b, bias_b);
    turn_pairs<true>(rotation, i, kLanes, a, b);
    hn::StoreInterleaved2(a, b, d, to + 2 * i);
  }
  for (; i < scan.angles; ++i) {
    const float a = normed[2 * i] + bias[2 * i], b = normed[2 * i + 1] + bias[2 * i + 1];
    to[2 * i] = a * rotation.cosines[i] - b * rotation.sines[i];
    to[2 * i + 1] = a * rotation.sines[i] + b * rotation.cosines[i];
  }
  biased(2 * scan.angles, scan.states);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
