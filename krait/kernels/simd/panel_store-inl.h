// The end of a product with panels: y = scale sum + bias for the 16 outputs of a panel, fewer in the last one.
#if defined(KRAIT_KERNELS_SIMD_PANEL_STORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_PANEL_STORE_INL_H_
#undef KRAIT_KERNELS_SIMD_PANEL_STORE_INL_H_
#else
#define KRAIT_KERNELS_SIMD_PANEL_STORE_INL_H_
#endif

#include "krait/kernels/panels.h"
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Vectors of the 16 outputs of a panel.
inline constexpr std::int64_t kPanelVectors = kPanelOutputs / static_cast<std::int64_t>(kLanes);

// The 16 outputs of a panel that a store_panel() left.
HWY_INLINE void load_panel(const float* y, std::int64_t outputs, VecF32* sums) {
  const auto lanes = static_cast<std::int64_t>(kLanes);
  for (std::int64_t v = 0; v < kPanelVectors; ++v) {
    const std::int64_t at = v * lanes;
    if (at + lanes <= outputs) {
      sums[v] = hn::LoadU(F32(), y + at);
    } else {
      sums[v] = at < outputs ? load_part(y + at, static_cast<std::size_t>(outputs - at)) : hn::Zero(F32());
    }
  }
}

// `sums` are the kPanelVectors vectors of one row and panel; `outputs` of the 16 exist.
HWY_INLINE void store_panel(const VecF32* sums, float scale, const float* bias, float* y, std::int64_t outputs) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  for (std::int64_t v = 0; v < kPanelVectors; ++v) {
    const std::int64_t at = v * lanes;
    VecF32 value = hn::Mul(sums[v], hn::Set(d, scale));
    if (at + lanes <= outputs) {
      if (bias != nullptr) value = hn::Add(value, hn::LoadU(d, bias + at));
      hn::StoreU(value, d, y + at);
    } else if (at < outputs) {
      const auto count = static_cast<std::size_t>(outputs - at);
      if (bias != nullptr) value = hn::Add(value, load_part(bias + at, count));
      store_part(value, y + at, count);
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
