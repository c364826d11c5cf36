#include "krait/kernels/widen.h"

#include <cstring>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/widen.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

template <class Weight>
HWY_INLINE void widen_as(const std::byte* from, std::size_t count, float* to) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(Weight::load(from + i * Weight::kBytes), F32(), to + i);
  if (i < count) store_part(Weight::load_part(from + i * Weight::kBytes, count - i), to + i, count - i);
}

void widen_bf16(const std::byte* from, std::size_t count, float* to) { widen_as<WeightBF16>(from, count, to); }
void widen_f16(const std::byte* from, std::size_t count, float* to) { widen_as<WeightF16>(from, count, to); }

void narrow_bf16(const float* from, std::size_t count, std::uint16_t* to) {
  const F32 d;
  const hn::RebindToUnsigned<F32> d32;
  const hn::RebindToSigned<F32> di32;
  const hn::Rebind<std::uint16_t, F32> d16;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const VecF32 v = hn::LoadU(d, from + i);
    const auto bits = hn::BitCast(d32, v);
    const auto even = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(even, hn::Set(d32, 0x7fff))));
    // A NaN's significand may carry over into the sign: a NaN stays one without rounding.
    const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(d32, 0x40));
    const auto kept = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded);
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, kept)), d16, to + i);
  }
  for (; i < count; ++i) to[i] = f32_to_bf16(from[i]);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(widen_bf16);
HWY_EXPORT(widen_f16);
HWY_EXPORT(narrow_bf16);

}  // namespace

std::int64_t weight_bytes(DType dtype) {
  KRAIT_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16, "weights of type {}",
              to_string(dtype));
  return dtype == DType::kF32 ? 4 : 2;
}

void widen(DType dtype, const std::byte* from, std::int64_t count, float* to) {
  const auto elements = static_cast<std::size_t>(count);
  switch (dtype) {
    case DType::kF32: std::memcpy(to, from, elements * sizeof(float)); return;
    case DType::kBF16: HWY_DYNAMIC_DISPATCH(widen_bf16)(from, elements, to); return;
    case DType::kF16: HWY_DYNAMIC_DISPATCH(widen_f16)(from, elements, to); return;
    default: KRAIT_CHECK(false, "weights of type {}", to_string(dtype));
  }
}

void narrow_to_bf16(const float* from, std::int64_t count, std::uint16_t* to) {
  HWY_DYNAMIC_DISPATCH(narrow_bf16)(from, static_cast<std::size_t>(count), to);
}

}  // namespace krait::kernels
#endif
