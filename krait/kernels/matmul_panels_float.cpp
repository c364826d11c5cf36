// Products with panels of f32, f16 and bf16 weights: y[m, n] += x[m, k] w[k][n], the x broadcast. 16-bit weights are
// widened on the way for a few rows, and once into scratch for many: activations are never rounded, and the f32
// multiply-add is as fast as any 16-bit one where there are no matrix units (docs/decisions/0004).
#include <algorithm>

#include "krait/kernels/matmul_panels_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/matmul_panels_float.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/panel_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Rows of x and panels of W in one block: 24 sums of 32 registers, or 12 of 16 (AVX2), or 16 of 32 (NEON).
inline constexpr std::int64_t kFloatPanels = kLanes >= 16 ? 3 : 1;
inline constexpr std::int64_t kFloatRows = kLanes >= 16 ? 8 : 4;

template <class Weight, std::int64_t kRows, std::int64_t kPanels>
HWY_INLINE void float_block(const PanelTask& task, std::int64_t row, std::int64_t panel) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  constexpr auto kBytes = static_cast<std::int64_t>(Weight::kBytes);
  constexpr std::int64_t kVectors = kPanels * kPanelVectors;
  VecF32 sum[kRows][kVectors];
  for (std::int64_t m = 0; m < kRows; ++m) {
    for (std::int64_t v = 0; v < kVectors; ++v) sum[m][v] = hn::Zero(d);
  }
  const std::byte* from = task.weight + panel * task.panel_bytes;
  const float* x = task.x.row(row);
  const std::int64_t stride = task.x.stride;
  const std::int64_t panel_bytes = task.panel_bytes;
  for (std::int64_t k = 0; k < task.columns; ++k) {
    VecF32 w[kVectors];
    for (std::int64_t p = 0; p < kPanels; ++p) {
      for (std::int64_t v = 0; v < kPanelVectors; ++v) {
        w[p * kPanelVectors + v] = Weight::load(from + p * panel_bytes + v * lanes * kBytes);
      }
    }
    for (std::int64_t m = 0; m < kRows; ++m) {
      const VecF32 xv = hn::Set(d, x[m * stride + k]);
      for (std::int64_t v = 0; v < kVectors; ++v) sum[m][v] = hn::MulAdd(xv, w[v], sum[m][v]);
    }
    from += kPanelOutputs * kBytes;
  }
  for (std::int64_t p = 0; p < kPanels; ++p) {
    const std::int64_t at = (panel + p) * kPanelOutputs;
    for (std::int64_t m = 0; m < kRows; ++m) {
      store_panel(sum[m] + p * kPanelVectors, task.scale, task.bias == nullptr ? nullptr : task.bias + at,
                  task.y.row(row + m) + at, task.outputs - at);
    }
  }
}

template <class Weight, std::int64_t kPanels>
HWY_INLINE void float_rows(const PanelTask& task, std::int64_t panel) {
  std::int64_t row = 0;
  for (; row + kFloatRows <= task.y.rows; row += kFloatRows) float_block<Weight, kFloatRows, kPanels>(task, row, panel);
  if constexpr (kFloatRows > 4) {
    if (row + 4 <= task.y.rows) {
      float_block<Weight, 4, kPanels>(task, row, panel);
      row += 4;
    }
  }
  if (row + 2 <= task.y.rows) {
    float_block<Weight, 2, kPanels>(task, row, panel);
    row += 2;
  }
  if (row < task.y.rows) float_block<Weight, 1, kPanels>(task, row, panel);
}

template <class Weight>
HWY_INLINE void float_task(const PanelTask& task) {
  std::int64_t panel = 0;
  if constexpr (kFloatPanels > 1) {
    for (; panel + kFloatPanels <= task.panels; panel += kFloatPanels) float_rows<Weight, kFloatPanels>(task, panel);
  }
  for (; panel < task.panels; ++panel) float_rows<Weight, 1>(task, panel);
}

// 16-bit panels, kFloatPanels at a time, as f32 in scratch.
template <class Weight>
HWY_INLINE void widened_task(const PanelTask& task, float* scratch) {
  const F32 d;
  const std::int64_t floats = task.columns * kPanelOutputs;
  for (std::int64_t panel = 0; panel < task.panels; panel += kFloatPanels) {
    PanelTask part = task;
    part.panels = std::min(kFloatPanels, task.panels - panel);
    const std::int64_t first = panel * kPanelOutputs;
    part.outputs = std::min(part.panels * kPanelOutputs, task.outputs - first);
    for (std::int64_t p = 0; p < part.panels; ++p) {
      const std::byte* from = task.weight + (panel + p) * task.panel_bytes;
      for (std::int64_t i = 0; i < floats; i += static_cast<std::int64_t>(kLanes)) {
        hn::Store(Weight::load(from + i * static_cast<std::int64_t>(Weight::kBytes)), d, scratch + p * floats + i);
      }
    }
    part.weight = reinterpret_cast<const std::byte*>(scratch);
    part.panel_bytes = floats * static_cast<std::int64_t>(sizeof(float));
    if (task.bias != nullptr) part.bias = task.bias + first;
    part.y = task.y.slice_columns(first, part.outputs);
    float_task<WeightF32>(part);
  }
}

template <class Weight>
HWY_INLINE void sixteen_bit_task(const PanelTask& task, float* scratch) {
  if (task.y.rows <= 2 * kFloatRows) {
    float_task<Weight>(task);
  } else {
    widened_task<Weight>(task, scratch);
  }
}

void float_panels(const PanelTask& task, float* scratch) {
  switch (task.format) {
    case PanelFormat::kBF16: sixteen_bit_task<WeightBF16>(task, scratch); return;
    case PanelFormat::kF16: sixteen_bit_task<WeightF16>(task, scratch); return;
    default: float_task<WeightF32>(task); return;
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(float_panels);

}  // namespace

std::int64_t float_panel_scratch(PanelFormat format, std::int64_t columns) {
  return format == PanelFormat::kF32 ? 0 : 3 * kPanelOutputs * columns;
}

void run_float_panels(const PanelTask& task, float* scratch) { HWY_DYNAMIC_DISPATCH(float_panels)(task, scratch); }

}  // namespace krait::kernels
#endif
