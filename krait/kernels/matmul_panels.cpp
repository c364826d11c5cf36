#include "krait/kernels/matmul_panels.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/kernels/matmul_panels_task.h"
#include "krait/kernels/simd_target.h"

namespace krait::kernels {
namespace {

// Up to this many rows a task is a stretch of weights that goes by once. A long stretch keeps the prefetchers going, a
// short one keeps all threads busy to the end: an eighth of a thread's share, within limits. Beyond, x and the weights
// of a task are to stay in the L2 cache together.
constexpr std::int64_t kStreamedRows = 48;
constexpr std::int64_t kLeastStreamedBytes = std::int64_t{36} << 10;
constexpr std::int64_t kMostStreamedBytes = std::int64_t{256} << 10;
constexpr std::int64_t kMostTileRows = 256;
constexpr std::int64_t kTilePanels = 12;

CodeZero zero_of_codes(PanelFormat format, bool vnni) {
  switch (format) {
    // Without VNNI the kernels make signed bytes of codes of 8 bits.
    case PanelFormat::kInt8:
    case PanelFormat::kInt8Block: return {vnni ? 128 : 0, false};
    case PanelFormat::kInt4Group32:
    case PanelFormat::kInt4Group128: return {8, false};
    case PanelFormat::kQ6K: return {32, true};
    default: return {};
  }
}

}  // namespace

void linear_panels(ThreadPool& pool, RowsIn x, const WeightMatrix& weight, const float* bias, RowsOut y) {
  if (x.rows == 0 || weight.rows == 0) return;
  const PanelShape shape = panel_shape(weight.panels, weight.rows, weight.columns);
  const bool vnni = vnni_in_use();
  QuantizedRows quantized;
  if (!is_float(weight.panels)) {
    quantized = quantize_rows(pool, weight.activations, zero_of_codes(weight.panels, vnni), x);
  }
  const bool streamed = x.rows <= kStreamedRows;
  std::int64_t tile_panels = kTilePanels;
  if (streamed) {
    // Each output is computed alike in whichever task it is, so that the cut may depend on the number of threads.
    const std::int64_t bytes =
        std::clamp(shape.total_bytes / (8 * pool.size()), kLeastStreamedBytes, kMostStreamedBytes);
    // Whole groups of three panels, which the kernels take together.
    tile_panels = std::max<std::int64_t>(3, bytes / std::max<std::int64_t>(1, shape.panel_bytes) / 3 * 3);
  }
  const std::int64_t output_tiles = (shape.panels + tile_panels - 1) / tile_panels;
  // Rows in equal tiles, in whole blocks of eight.
  const std::int64_t row_tiles = (x.rows + kMostTileRows - 1) / kMostTileRows;
  const std::int64_t tile_rows = ((x.rows + row_tiles - 1) / row_tiles + 7) / 8 * 8;
  pool.parallel_for(row_tiles * output_tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t row = tile / output_tiles * tile_rows;
      const std::int64_t rows = std::min(tile_rows, x.rows - row);
      if (rows <= 0) continue;
      const std::int64_t panel = tile % output_tiles * tile_panels;
      const std::int64_t output = panel * kPanelOutputs;
      const std::int64_t panels = std::min(tile_panels, shape.panels - panel);
      PanelTask task;
      task.format = weight.panels;
      task.weight = weight.data + panel * shape.panel_bytes;
      task.panel_bytes = shape.panel_bytes;
      task.scale_bytes = shape.scale_bytes;
      task.columns = weight.columns;
      task.panels = panels;
      task.outputs = std::min(panels * kPanelOutputs, weight.rows - output);
      task.vnni = vnni;
      task.row_scales = weight.activations == ActivationFormat::kQ8Row;
      task.scale = weight.scale;
      task.bias = bias == nullptr ? nullptr : bias + output;
      task.y = y.slice_rows(row, rows).slice_columns(output, task.outputs);
      if (is_float(weight.panels)) {
        task.x = x.slice_rows(row, rows);
        run_float_panels(task);
        continue;
      }
      task.quantized = quantized.from_row(row);
      if (weight.panels == PanelFormat::kInt8) {
        run_int8_panels(task);
      } else {
        run_block_panels(task);
      }
    }
  });
}

}  // namespace krait::kernels
