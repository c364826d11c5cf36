#include "krait/kernels/matmul_panels.h"

#include <algorithm>
#include <span>
#include <vector>

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

// How one product is cut into tasks.
struct Tiling {
  const GroupedProduct* product = nullptr;
  PanelShape shape;
  std::int64_t tile_panels = 0, output_tiles = 0, tile_rows = 0;
  std::int64_t first_task = 0;

  Tiling(const GroupedProduct& of, std::int64_t threads) : product(&of) {
    const WeightMatrix& weight = *of.weight;
    shape = panel_shape(weight.panels, weight.rows, weight.columns);
    tile_panels = kTilePanels;
    if (of.y.rows <= kStreamedRows) {
      // Each output is computed alike in whichever task it is, so that the cut may depend on the number of threads.
      const std::int64_t bytes = std::clamp(shape.total_bytes / (8 * threads), kLeastStreamedBytes, kMostStreamedBytes);
      // Whole groups of three panels, which the kernels take together.
      tile_panels = std::max<std::int64_t>(3, bytes / std::max<std::int64_t>(1, shape.panel_bytes) / 3 * 3);
    }
    output_tiles = (shape.panels + tile_panels - 1) / tile_panels;
    // Rows in equal tiles, in whole blocks of eight.
    const std::int64_t row_tiles = (of.y.rows + kMostTileRows - 1) / kMostTileRows;
    tile_rows = row_tiles == 0 ? 8 : ((of.y.rows + row_tiles - 1) / row_tiles + 7) / 8 * 8;
  }
  std::int64_t tasks() const { return (product->y.rows + tile_rows - 1) / tile_rows * output_tiles; }
};

void run_tile(const Tiling& tiling, std::int64_t tile, RowsIn x, const QuantizedRows& quantized, bool vnni) {
  const WeightMatrix& weight = *tiling.product->weight;
  const RowsOut& y = tiling.product->y;
  const std::int64_t row = tile / tiling.output_tiles * tiling.tile_rows;
  const std::int64_t rows = std::min(tiling.tile_rows, y.rows - row);
  const std::int64_t panel = tile % tiling.output_tiles * tiling.tile_panels;
  const std::int64_t output = panel * kPanelOutputs;
  const std::int64_t panels = std::min(tiling.tile_panels, tiling.shape.panels - panel);
  PanelTask task;
  task.format = weight.panels;
  task.weight = weight.data + panel * tiling.shape.panel_bytes;
  task.panel_bytes = tiling.shape.panel_bytes;
  task.scale_bytes = tiling.shape.scale_bytes;
  task.columns = weight.columns;
  task.panels = panels;
  task.outputs = std::min(panels * kPanelOutputs, weight.rows - output);
  task.vnni = vnni;
  task.row_scales = weight.activations == ActivationFormat::kQ8Row;
  task.scale = weight.scale;
  task.bias = tiling.product->bias == nullptr ? nullptr : tiling.product->bias + output;
  task.y = y.slice_rows(row, rows).slice_columns(output, task.outputs);
  if (is_float(weight.panels)) {
    task.x = x.slice_rows(tiling.product->first_row + row, rows);
    return run_float_panels(task);
  }
  task.quantized = quantized.from_row(tiling.product->first_row + row);
  if (weight.panels == PanelFormat::kInt8) return run_int8_panels(task);
  run_block_panels(task);
}

}  // namespace

void linear_panels(ThreadPool& pool, RowsIn x, std::span<const GroupedProduct> products) {
  thread_local std::vector<Tiling> tilings;
  tilings.clear();
  std::int64_t tasks = 0;
  for (const GroupedProduct& product : products) {
    if (product.y.rows == 0 || product.weight->rows == 0) continue;
    tilings.emplace_back(product, pool.size()).first_task = tasks;
    tasks += tilings.back().tasks();
  }
  if (tasks == 0) return;
  const WeightMatrix& first = *products.front().weight;
  const bool vnni = vnni_in_use();
  QuantizedRows quantized;
  if (!is_float(first.panels)) {
    quantized = quantize_rows(pool, first.activations, zero_of_codes(first.panels, vnni), x);
  }
  const std::span<const Tiling> all(tilings);
  pool.parallel_for(tasks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const auto after = std::ranges::upper_bound(all, task, {}, &Tiling::first_task);
      const Tiling& tiling = *(after - 1);
      run_tile(tiling, task - tiling.first_task, x, quantized, vnni);
    }
  });
}

}  // namespace krait::kernels
