// The decays of a chunk of ssd_scan's rows, which its forward and its backward pass both begin with. Exponents are kept
// in units of ln 2.
#if defined(KRAIT_KERNELS_SIMD_SSD_DECAYS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SSD_DECAYS_INL_H_
#undef KRAIT_KERNELS_SIMD_SSD_DECAYS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SSD_DECAYS_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/scan_ssd.h"
#include "krait/kernels/simd/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// dt, cum in two floats, exp(cum_i) and exp(cum_Q - cum_j) of a chunk; [Q], padded to whole vectors.
struct SsdDecays {
  float *dt, *high, *low, *from_start, *to_end;
};

// dt, cum and its exponentials of a chunk; returns exp(cum_Q).
inline HWY_NOINLINE float ssd_chunk_decays(const SsdScan& scan, RowsIn dt, std::int64_t head, std::int64_t first,
                                           std::int64_t rows, const SsdDecays& s) {
  const F32 d;
  const float bias = scan.dt_bias == nullptr ? 0.0F : scan.dt_bias[head];
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t padded = (rows + lanes - 1) / lanes * lanes;
  for (std::int64_t i = 0; i < rows; ++i) s.dt[i] = dt.row(first + i)[head] + bias;
  std::fill(s.dt + rows, s.dt + padded, 0.0F);
  for (std::int64_t i = 0; i < padded; i += lanes) {
    const VecF32 v = softplus_f32(hn::LoadU(d, s.dt + i));
    hn::StoreU(at_most(hn::Set(d, scan.dt_high), at_least(hn::Set(d, scan.dt_low), v)), d, s.dt + i);
  }
  // A running sum whose differences are exponentiated: in double, then as the float nearest to it and the rest.
  const double a = double{scan.a[head]} * 1.4426950408889634;
  double total = 0.0;
  for (std::int64_t i = 0; i < rows; ++i) {
    total += s.dt[i] * a;
    s.high[i] = static_cast<float>(total);
    s.low[i] = static_cast<float>(total - s.high[i]);
  }
  std::fill(s.high + rows, s.high + padded, 0.0F);
  std::fill(s.low + rows, s.low + padded, 0.0F);
  const auto total_high = static_cast<float>(total);
  const VecF32 high = hn::Set(d, total_high), low = hn::Set(d, static_cast<float>(total - total_high));
  for (std::int64_t i = 0; i < padded; i += lanes) {
    const VecF32 cum = hn::LoadU(d, s.high + i);
    VecF32 power[2] = {cum, hn::Add(hn::Sub(high, cum), hn::Sub(low, hn::LoadU(d, s.low + i)))};
    exp2_f32(power);
    hn::StoreU(power[0], d, s.from_start + i);
    hn::StoreU(power[1], d, s.to_end + i);
  }
  VecF32 carried[1] = {high};
  exp2_f32(carried);
  return hn::GetLane(carried[0]);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
