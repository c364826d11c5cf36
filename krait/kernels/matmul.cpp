// `linear`: chooses between the streaming kernels for a few rows and tiles of a dense product for many.
//
// bf16 and f16 weights are widened to an f32 tile in scratch before the product. On CPUs with AVX512-BF16 but no AMX
// the bf16 instruction does half the multiply-adds of the f32 one per cycle (measured), so the f32 product of a
// widened tile is both faster and exact in its inputs; activations are never rounded to bf16.
#include "krait/kernels/matmul.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/matmul_panels.h"
#include "krait/kernels/matmul_rows.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/widen.h"

namespace krait::kernels {
namespace {

// Up to this many rows the streaming kernels win (kernels_bench, Linear).
constexpr std::int64_t kFewRows = 16;

// Tiles of the output. They depend on the shape alone, never on the number of threads: each element's sum has one
// order. 256 rows by 192 outputs over K = 768 is 590 KB of weights and 786 KB of x: both fit the L2 cache.
constexpr std::int64_t kMostTileRows = 256;
constexpr std::int64_t kLeastTileRows = 64;
constexpr std::int64_t kTileOutputs = 192;

// The extras that a GGUF may ask for, each a pass of its own over activations or output.
void linear_as_stored(ThreadPool& pool, RowsIn x, const WeightMatrix& weight, const float* bias, RowsOut y) {
  thread_local std::vector<float> rounded;
  if (weight.activations != ActivationFormat::kF32) {
    rounded.resize(static_cast<std::size_t>(x.rows * x.columns));
    const RowsOut kept(rounded.data(), x.rows, x.columns);
    round_activations(pool, weight.activations, x, kept);
    x = kept;
  }
  WeightMatrix plain = weight;
  plain.scale = 1.0F;
  plain.activations = ActivationFormat::kF32;
  if (weight.scale == 1.0F) {
    linear(pool, x, plain, bias, y);
    return;
  }
  linear(pool, x, plain, nullptr, y);
  pool.parallel_for(y.rows, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* out = y.row(r);
      for (std::int64_t n = 0; n < y.columns; ++n) out[n] = out[n] * weight.scale + (bias != nullptr ? bias[n] : 0.0F);
    }
  });
}

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Fewer rows to a tile while the product would keep fewer than 16 threads busy. oneDNN rearranges the weights of
// each tile anew, some tenth of the work at 64 rows.
std::int64_t tile_rows(std::int64_t rows, std::int64_t outputs) {
  std::int64_t tile = kMostTileRows;
  while (tile > kLeastTileRows && divide_up(rows, tile) * divide_up(outputs, kTileOutputs) < 16) tile /= 2;
  return tile;
}

}  // namespace

std::uint64_t weight_memory(const WeightMatrix& weight) {
  if (weight.layout == WeightLayout::kRows) {
    return static_cast<std::uint64_t>(weight.rows * weight.columns * weight_bytes(weight.dtype));
  }
  return static_cast<std::uint64_t>(panel_shape(weight.panels, weight.rows, weight.columns).total_bytes);
}

void linear(ThreadPool& pool, RowsIn x, const WeightMatrix& weight, const float* bias, RowsOut y) {
  KRAIT_CHECK_EQ(x.columns, weight.columns);
  KRAIT_CHECK_EQ(y.columns, weight.rows);
  KRAIT_CHECK_EQ(x.rows, y.rows);
  if (x.rows == 0 || weight.rows == 0) return;
  const GroupedProduct alone = {.weight = &weight, .bias = bias, .y = y};
  if (weight.layout == WeightLayout::kPanels && !is_float(weight.panels)) {
    linear_panels(pool, x, {&alone, 1});
    return;
  }
  if (weight.activations != ActivationFormat::kF32 || weight.scale != 1.0F) {
    linear_as_stored(pool, x, weight, bias, y);
    return;
  }
  if (weight.layout == WeightLayout::kPanels) {
    linear_panels(pool, x, {&alone, 1});
    return;
  }
  if (x.rows <= kFewRows || weight.columns == 0) {
    linear_few_rows(pool, x, weight, bias, y);
    return;
  }
  const std::int64_t row_bytes = weight.columns * weight_bytes(weight.dtype);
  const std::int64_t most_rows = tile_rows(x.rows, weight.rows);
  const std::int64_t row_tiles = divide_up(x.rows, most_rows);
  const std::int64_t output_tiles = divide_up(weight.rows, kTileOutputs);
  pool.parallel_for(row_tiles * output_tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t row = tile % row_tiles * most_rows;
      const std::int64_t output = tile / row_tiles * kTileOutputs;
      const std::int64_t rows = std::min(most_rows, x.rows - row);
      const std::int64_t outputs = std::min(kTileOutputs, weight.rows - output);
      const std::byte* stored = weight.data + output * row_bytes;
      const float* w = nullptr;
      if (weight.dtype == DType::kF32) {
        w = reinterpret_cast<const float*>(stored);
      } else {
        const std::span<float> widened = thread_scratch(static_cast<std::size_t>(outputs * weight.columns));
        widen(weight.dtype, stored, outputs * weight.columns, widened.data());
        w = widened.data();
      }
      gemm_f32({.b_transposed = true}, rows, outputs, weight.columns, x.row(row), x.stride, w, weight.columns,
               y.row(row) + output, y.stride);
      if (bias == nullptr) continue;
      for (std::int64_t r = row; r < row + rows; ++r) {
        float* out = y.row(r) + output;
        for (std::int64_t n = 0; n < outputs; ++n) out[n] += bias[output + n];
      }
    }
  });
}

void linear_group(ThreadPool& pool, RowsIn x, std::span<const GroupedProduct> products) {
  bool together = true;
  for (const GroupedProduct& product : products) {
    const WeightMatrix& weight = *product.weight;
    KRAIT_CHECK_EQ(x.columns, weight.columns);
    KRAIT_CHECK_EQ(product.y.columns, weight.rows);
    KRAIT_CHECK(product.first_row >= 0 && product.first_row + product.y.rows <= x.rows, "rows {} + {} of {}",
                product.first_row, product.y.rows, x.rows);
    const WeightMatrix& first = *products.front().weight;
    const bool as_it_is =
        !is_float(weight.panels) || (weight.activations == ActivationFormat::kF32 && weight.scale == 1.0F);
    together = together && weight.layout == WeightLayout::kPanels && weight.panels == first.panels &&
               weight.activations == first.activations && as_it_is;
  }
  if (together) return linear_panels(pool, x, products);
  for (const GroupedProduct& product : products) {
    linear(pool, x.slice_rows(product.first_row, product.y.rows), *product.weight, product.bias, product.y);
  }
}

}  // namespace krait::kernels
