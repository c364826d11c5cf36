// Products with panels of f32, f16 and bf16 weights: y[m, n] += x[m, k] w[k][n], the x broadcast. 16-bit weights are
// widened on the way for a few rows, and once into scratch for many: activations are never rounded, and the f32
// multiply-add is as fast as any 16-bit one where there are no matrix units (docs/decisions/0004).
#include <algorithm>

#include "krait/kernels/matmul_panels_task.h"
#include "krait/kernels/simd/highway_config.h"

//
#include "hwy/cache_control.h"

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

// K is walked in stretches whose weights, f32 by then, stay in the L1 cache while all rows go by. Sums wait in y.
inline constexpr std::int64_t kStretch = 512;

// Columns of W in hand, f32 or as stored: those from `first` on, `count` of them; panels are `panel_bytes` apart.
struct Stretch {
  const std::byte* weight;
  std::int64_t panel_bytes;
  std::int64_t first;
  std::int64_t count;
};

template <class Weight, std::int64_t kRows, std::int64_t kPanels>
HWY_INLINE void float_block(const PanelTask& task, const Stretch& stretch, std::int64_t row, std::int64_t panel) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  constexpr auto kBytes = static_cast<std::int64_t>(Weight::kBytes);
  constexpr std::int64_t kVectors = kPanels * kPanelVectors;
  VecF32 sum[kRows][kVectors];
  for (std::int64_t m = 0; m < kRows; ++m) {
    for (std::int64_t p = 0; p < kPanels; ++p) {
      VecF32* of_panel = sum[m] + p * kPanelVectors;
      if (stretch.first == 0) {
        for (std::int64_t v = 0; v < kPanelVectors; ++v) of_panel[v] = hn::Zero(d);
      } else {
        const std::int64_t at = (panel + p) * kPanelOutputs;
        load_panel(task.y.row(row + m) + at, task.outputs - at, of_panel);
      }
    }
  }
  const std::byte* from = stretch.weight;
  const float* x = task.x.row(row) + stretch.first;
  const std::int64_t stride = task.x.stride;
  const std::int64_t panel_bytes = stretch.panel_bytes;
  for (std::int64_t k = 0; k < stretch.count; ++k) {
    VecF32 w[kVectors];
    if constexpr (kPanels == 1) hwy::Prefetch(from + kPanelsAhead);
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
  const bool last = stretch.first + stretch.count == task.columns;
  const float* bias = last ? task.bias : nullptr;
  for (std::int64_t p = 0; p < kPanels; ++p) {
    const std::int64_t at = (panel + p) * kPanelOutputs;
    for (std::int64_t m = 0; m < kRows; ++m) {
      store_panel(sum[m] + p * kPanelVectors, last ? task.scale : 1.0F, bias == nullptr ? nullptr : bias + at,
                  task.y.row(row + m) + at, task.outputs - at);
    }
  }
}

template <class Weight, std::int64_t kPanels>
HWY_INLINE void float_rows(const PanelTask& task, const Stretch& stretch, std::int64_t panel) {
  std::int64_t row = 0;
  for (; row + kFloatRows <= task.y.rows; row += kFloatRows) {
    float_block<Weight, kFloatRows, kPanels>(task, stretch, row, panel);
  }
  if constexpr (kFloatRows > 4) {
    if (row + 4 <= task.y.rows) {
      float_block<Weight, 4, kPanels>(task, stretch, row, panel);
      row += 4;
    }
  }
  if (row + 2 <= task.y.rows) {
    float_block<Weight, 2, kPanels>(task, stretch, row, panel);
    row += 2;
  }
  if (row < task.y.rows) float_block<Weight, 1, kPanels>(task, stretch, row, panel);
}

// kPanels panels from `panel` on, K in stretches, widened to f32 where they are not.
template <class Weight, std::int64_t kPanels>
HWY_INLINE void stretches(const PanelTask& task, std::int64_t panel, float* scratch) {
  constexpr auto kBytes = static_cast<std::int64_t>(Weight::kBytes);
  constexpr std::int64_t kFloats = kStretch * kPanelOutputs;
  for (std::int64_t first = 0; first == 0 || first < task.columns; first += kStretch) {
    const std::int64_t count = std::min(kStretch, task.columns - first);
    const std::byte* from = task.weight + panel * task.panel_bytes + first * kPanelOutputs * kBytes;
    if constexpr (kBytes == 4) {
      float_rows<WeightF32, kPanels>(task, {from, task.panel_bytes, first, count}, panel);
      continue;
    }
    for (std::int64_t p = 0; p < kPanels; ++p) {
      for (std::int64_t i = 0; i < count * kPanelOutputs; i += static_cast<std::int64_t>(kLanes)) {
        hn::Store(Weight::load(from + p * task.panel_bytes + i * kBytes), F32(), scratch + p * kFloats + i);
      }
    }
    float_rows<WeightF32, kPanels>(task, {reinterpret_cast<const std::byte*>(scratch), kFloats * 4, first, count},
                                   panel);
  }
}

template <class Weight>
HWY_INLINE void float_task(const PanelTask& task, float* scratch) {
  // A few rows wait for memory, which is fastest in one stream.
  if (task.y.rows <= kFloatRows) {
    for (std::int64_t panel = 0; panel < task.panels; ++panel) {
      const Stretch whole{task.weight + panel * task.panel_bytes, task.panel_bytes, 0, task.columns};
      float_rows<Weight, 1>(task, whole, panel);
    }
    return;
  }
  std::int64_t panel = 0;
  if constexpr (kFloatPanels > 1) {
    for (; panel + kFloatPanels <= task.panels; panel += kFloatPanels) {
      stretches<Weight, kFloatPanels>(task, panel, scratch);
    }
  }
  for (; panel < task.panels; ++panel) stretches<Weight, 1>(task, panel, scratch);
}

void float_panels(const PanelTask& task, float* scratch) {
  switch (task.format) {
    case PanelFormat::kBF16: float_task<WeightBF16>(task, scratch); return;
    case PanelFormat::kF16: float_task<WeightF16>(task, scratch); return;
    default: float_task<WeightF32>(task, scratch); return;
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "krait/kernels/scratch.h"

namespace krait::kernels {
namespace {

HWY_EXPORT(float_panels);

}  // namespace

void run_float_panels(const PanelTask& task) {
  // Three panels of a stretch, widened.
  const std::span<float> scratch = thread_scratch(3 * 512 * kPanelOutputs);
  HWY_DYNAMIC_DISPATCH(float_panels)(task, scratch.data());
}

}  // namespace krait::kernels
#endif
