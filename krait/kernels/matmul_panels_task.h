// What the kernels of `linear_panels` are given: a rectangle of the output, some rows and some panels.
#pragma once

#include <cstdint>

#include "krait/kernels/panels.h"
#include "krait/kernels/quantized_rows.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// How far ahead weights that go by once are asked for: the hardware's own prefetching stops at each 4 KiB page (30 % on
// 16-bit weights, 10 % on f32).
inline constexpr std::int64_t kPanelsAhead = 4096;

struct PanelTask {
  PanelFormat format = PanelFormat::kF32;
  const std::byte* weight = nullptr;  // of the first panel of the task
  std::int64_t panel_bytes = 0;
  std::int64_t scale_bytes = 0;
  std::int64_t columns = 0;  // K
  std::int64_t panels = 0;
  std::int64_t outputs = 0;     // of the task, 16 (panels - 1) + 1 … 16 panels
  bool vnni = false;            // use it, on targets that have a variant for it
  bool row_scales = false;      // x has one scale a row
  float scale = 1.0F;           // of the whole matrix
  const float* bias = nullptr;  // of the task's first output, or null
  RowsIn x;                     // float formats: the task's rows
  QuantizedRows quantized;      // the others; row 0 is the task's first row
  RowsOut y;                    // the task's rows and outputs
};

// Each for the formats it names.
void run_float_panels(const PanelTask& task);  // kF32, kF16, kBF16
void run_int8_panels(const PanelTask& task);   // kInt8
void run_block_panels(const PanelTask& task);  // the rest

}  // namespace krait::kernels
