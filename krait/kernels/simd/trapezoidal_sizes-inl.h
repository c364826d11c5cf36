// Decays and weights of the rows of a chunk of trapezoidal_scan (simd/trapezoidal_chunks-inl.h). Exponents are in units
// of ln 2.
#if defined(KRAIT_KERNELS_SIMD_TRAPEZOIDAL_SIZES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_SIZES_INL_H_
#undef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_SIZES_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRAPEZOIDAL_SIZES_INL_H_
#endif

#include <array>

#include "krait/kernels/scan_trapezoidal_task.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

struct TrapezoidalSizes {
  float *high, *low, *carry, *gamma;  // [T]: cum in two floats, c_t, gamma_t
  float *from_start, *to_end;         // [T]: exp(cum_t), c_t exp(cum_T - cum_t)

  std::array<float**, 6> all() { return {&high, &low, &carry, &gamma, &from_start, &to_end}; }
};

// Returns exp(cum_T). known: `rows`, or one more when c of the last row is to have the beta of the row behind it.
static HWY_NOINLINE float trapezoidal_chunk_sizes(RowsIn prepared, const TrapezoidalColumns& columns, std::int64_t head,
                                                  std::int64_t first, std::int64_t rows, std::int64_t known,
                                                  const TrapezoidalSizes& s) {
  const F32 d;
  // A running sum whose differences are exponentiated: in double, then as the float nearest to it and the rest.
  double total = 0.0;
  for (std::int64_t t = 0; t < rows; ++t) {
    const float* row = prepared.row(first + t);
    total += row[columns.log_decay + head];
    s.high[t] = static_cast<float>(total);
    s.low[t] = static_cast<float>(total - s.high[t]);
    s.gamma[t] = row[columns.gamma + head];
    s.carry[t] = s.gamma[t];
    if (t > 0) s.carry[t - 1] += row[columns.shift + head];
  }
  if (known > rows) s.carry[rows - 1] += prepared.row(first + rows)[columns.shift + head];
  const auto total_high = static_cast<float>(total);
  const VecF32 high = hn::Set(d, total_high), low = hn::Set(d, static_cast<float>(total - total_high));
  for_vectors(rows, [&](auto whole, std::int64_t t, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 cum = load<kWhole>(s.high + t, part);
    VecF32 power[2] = {cum, hn::Add(hn::Sub(high, cum), hn::Sub(low, load<kWhole>(s.low + t, part)))};
    exp2_f32(power);
    store<kWhole>(power[0], s.from_start + t, part);
    store<kWhole>(hn::Mul(power[1], load<kWhole>(s.carry + t, part)), s.to_end + t, part);
  });
  VecF32 carried[1] = {high};
  exp2_f32(carried);
  return hn::GetLane(carried[0]);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
