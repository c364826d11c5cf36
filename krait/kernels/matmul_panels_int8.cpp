// Products with panels of int8 weights, one scale an output, and int8 rows of x, one scale a row:
//   y[m, n] = scale_x[m] scale_w[n] sum_k x[m, k] w[n, k]
// The sum is a whole number and exact: K < 2^16 keeps it in 32 bits (255 * 127 * 2^16 < 2^31).
#include <algorithm>

#include "krait/core/check.h"
#include "krait/kernels/matmul_panels_task.h"
#include "krait/kernels/simd/highway_config.h"

//
#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/matmul_panels_int8.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/dot_int8-inl.h"
#include "krait/kernels/simd/panel_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

inline constexpr std::int64_t kInt8Panels = kLanes >= 16 ? 3 : 1;
inline constexpr std::int64_t kInt8Rows = kLanes >= 16 ? 8 : 4;

template <class Dot, std::int64_t kRows, std::int64_t kPanels>
HWY_INLINE void int8_block(const PanelTask& task, std::int64_t row, std::int64_t panel) {
  const F32 d;
  const I32 di;
  const U8 du8;
  constexpr std::int64_t kVectorBytes = static_cast<std::int64_t>(kLanes) * 4;
  constexpr std::int64_t kVectors = kPanels * kPanelVectors;
  const QuantizedRows& q = task.quantized;
  VecI32 sum[kRows][kVectors];
  for (std::int64_t m = 0; m < kRows; ++m) {
    const std::int32_t total = q.totals[row + m];
    for (std::int64_t v = 0; v < kVectors; ++v) sum[m][v] = hn::Set(di, -Dot::kWideZero * total);
  }
  const auto* from = reinterpret_cast<const std::uint8_t*>(task.weight + panel * task.panel_bytes + task.scale_bytes);
  const std::int8_t* x = q.value_row(row);
  for (std::int64_t unit = 0; unit < 8 * q.blocks; ++unit) {
    VecU8 w[kVectors];
    if constexpr (kPanels == 1) hwy::Prefetch(from + kPanelsAhead);
    for (std::int64_t p = 0; p < kPanels; ++p) {
      for (std::int64_t v = 0; v < kPanelVectors; ++v) {
        w[p * kPanelVectors + v] = hn::LoadU(du8, from + p * task.panel_bytes + v * kVectorBytes);
      }
    }
    for (std::int64_t m = 0; m < kRows; ++m) {
      const VecI32 xv = broadcast_four(x + m * q.stride + 4 * unit);
      for (std::int64_t v = 0; v < kVectors; ++v) sum[m][v] = Dot::wide(sum[m][v], w[v], xv);
    }
    from += 64;
  }
  for (std::int64_t p = 0; p < kPanels; ++p) {
    const std::int64_t at = (panel + p) * kPanelOutputs;
    const auto* scales = reinterpret_cast<const float*>(task.weight + (panel + p) * task.panel_bytes);
    for (std::int64_t m = 0; m < kRows; ++m) {
      VecF32 value[kPanelVectors];
      for (std::int64_t v = 0; v < kPanelVectors; ++v) {
        const VecF32 whole = hn::ConvertTo(d, sum[m][p * kPanelVectors + v]);
        value[v] = hn::Mul(whole, hn::LoadU(d, scales + v * static_cast<std::int64_t>(kLanes)));
      }
      store_panel(value, q.scale_row(row + m)[0] * task.scale, task.bias == nullptr ? nullptr : task.bias + at,
                  task.y.row(row + m) + at, task.outputs - at);
    }
  }
}

template <class Dot, std::int64_t kPanels>
HWY_INLINE void int8_rows(const PanelTask& task, std::int64_t panel) {
  std::int64_t row = 0;
  for (; row + kInt8Rows <= task.y.rows; row += kInt8Rows) int8_block<Dot, kInt8Rows, kPanels>(task, row, panel);
  if constexpr (kInt8Rows > 4) {
    if (row + 4 <= task.y.rows) {
      int8_block<Dot, 4, kPanels>(task, row, panel);
      row += 4;
    }
  }
  if (row + 2 <= task.y.rows) {
    int8_block<Dot, 2, kPanels>(task, row, panel);
    row += 2;
  }
  if (row < task.y.rows) int8_block<Dot, 1, kPanels>(task, row, panel);
}

template <class Dot>
HWY_INLINE void int8_task(const PanelTask& task) {
  std::int64_t panel = 0;
  // A few rows wait for memory, which is fastest in one stream.
  if (kInt8Panels > 1 && task.y.rows > kInt8Rows) {
    for (; panel + kInt8Panels <= task.panels; panel += kInt8Panels) int8_rows<Dot, kInt8Panels>(task, panel);
  }
  for (; panel < task.panels; ++panel) int8_rows<Dot, 1>(task, panel);
}

void int8_panels(const PanelTask& task) {
#if KRAIT_DOT_VNNI
  if (task.vnni) {
    int8_task<DotVnni>(task);
    return;
  }
#endif
  int8_task<DotPairs>(task);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(int8_panels);

}  // namespace

void run_int8_panels(const PanelTask& task) {
  KRAIT_CHECK(task.columns < std::int64_t{1} << 16, "{} columns of int8", task.columns);
  HWY_DYNAMIC_DISPATCH(int8_panels)(task);
}

}  // namespace krait::kernels
#endif
