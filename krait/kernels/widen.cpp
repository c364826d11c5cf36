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

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(widen_bf16);
HWY_EXPORT(widen_f16);

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

}  // namespace krait::kernels
#endif
