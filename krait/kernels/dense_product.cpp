#include "krait/kernels/dense_product.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/core/error.h"
#include "krait/kernels/partial_sums.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/widen.h"

namespace krait::kernels {
namespace {

// Tiles of C. oneDNN rearranges the operands of each anew: (rows + columns) K copies beside rows * columns * K
// multiply-adds, so tiles are large while there are enough of them for many threads (kernels_bench, DenseProduct).
constexpr std::int64_t kMostRows = 512, kLeastRows = 256;
constexpr std::int64_t kMostColumns = 768, kLeastColumns = 192;
constexpr std::int64_t kEnoughTiles = 16;

// Rows of K that are rounded to bf16 at a time: what the rounded operands of a tile take is bounded, 5 MB.
constexpr std::int64_t kRoundedDepth = 2048;

struct TileShape {
  std::int64_t rows;
  std::int64_t columns;
};

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Halves the longer side until there are enough tiles or they are small.
TileShape tile_shape(std::int64_t rows, std::int64_t columns) {
  TileShape tile{kMostRows, kMostColumns};
  while (divide_up(rows, tile.rows) * divide_up(columns, tile.columns) < kEnoughTiles) {
    const bool rows_can = tile.rows > kLeastRows, columns_can = tile.columns > kLeastColumns;
    if (!rows_can && !columns_can) break;
    if (columns_can && (!rows_can || std::min(tile.columns, columns) >= std::min(tile.rows, rows))) {
      tile.columns /= 2;
    } else {
      tile.rows /= 2;
    }
  }
  return tile;
}

// The block [first_row, +rows) x [first_column, +columns) of `from`, rounded and dense.
void round_block(RowsIn from, std::int64_t first_row, std::int64_t rows, std::int64_t first_column,
                 std::int64_t columns, std::uint16_t* to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    narrow_to_bf16(from.row(first_row + r) + first_column, columns, to + r * columns);
  }
}

// A tile of C at (row, column).
struct Tile {
  GemmForm form;
  RowsIn a, b;
  std::int64_t depth;
  std::int64_t row, column, rows, columns;
  float* c;
  std::int64_t ldc;
};

void multiply_f32(const Tile& tile) {
  const float* a = tile.form.a_transposed ? tile.a.data + tile.row : tile.a.row(tile.row);
  const float* b = tile.form.b_transposed ? tile.b.row(tile.column) : tile.b.data + tile.column;
  gemm_f32(tile.form, tile.rows, tile.columns, tile.depth, a, tile.a.stride, b, tile.b.stride, tile.c, tile.ldc);
}

void multiply_bf16(const Tile& tile) {
  const std::int64_t most = std::min(tile.depth, kRoundedDepth);
  const std::span<float> scratch = thread_scratch(static_cast<std::size_t>((tile.rows + tile.columns) * most / 2 + 1));
  auto* const a = reinterpret_cast<std::uint16_t*>(scratch.data());
  std::uint16_t* const b = a + tile.rows * most;
  GemmForm form = tile.form;
  for (std::int64_t first = 0; first < tile.depth; first += most) {
    const std::int64_t count = std::min(most, tile.depth - first);
    if (form.a_transposed) {
      round_block(tile.a, first, count, tile.row, tile.rows, a);
    } else {
      round_block(tile.a, tile.row, tile.rows, first, count, a);
    }
    if (form.b_transposed) {
      round_block(tile.b, tile.column, tile.columns, first, count, b);
    } else {
      round_block(tile.b, first, count, tile.column, tile.columns, b);
    }
    gemm_bf16(form, tile.rows, tile.columns, count, a, form.a_transposed ? tile.rows : count, b,
              form.b_transposed ? count : tile.columns, tile.c, tile.ldc);
    form.add = true;
  }
}

}  // namespace

void dense_product(ThreadPool& pool, GemmForm form, RowsIn a, RowsIn b, RowsOut c, ProductPrecision precision) {
  const std::int64_t depth = form.a_transposed ? a.rows : a.columns;
  KRAIT_CHECK_EQ(form.b_transposed ? b.columns : b.rows, depth);
  KRAIT_CHECK_EQ(form.a_transposed ? a.columns : a.rows, c.rows);
  KRAIT_CHECK_EQ(form.b_transposed ? b.rows : b.columns, c.columns);
  for (const RowsIn& each : {a, b, RowsIn(c)}) {
    KRAIT_CHECK(each.rows <= 1 || each.stride >= each.columns, "rows of {} are {} apart", each.columns, each.stride);
  }
  if (precision == ProductPrecision::kBF16 && !gemm_bf16_available()) {
    throw UserError("oneDNN has no bf16 product for this CPU", "multiply in f32");
  }
  if (c.rows == 0 || c.columns == 0) return;
  if (depth == 0) {
    for (std::int64_t r = 0; r < c.rows && !form.add; ++r) std::fill_n(c.row(r), c.columns, 0.0F);
    return;
  }
  // A single row has no stride to speak of; oneDNN wants one that its columns fit into.
  for (RowsIn* each : {&a, &b}) each->stride = std::max(each->stride, each->columns);
  c.stride = std::max(c.stride, c.columns);
  const TileShape shape = tile_shape(c.rows, c.columns);
  const std::int64_t down = divide_up(c.rows, shape.rows), across = divide_up(c.columns, shape.columns);
  pool.parallel_for(down * across, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i % down * shape.rows, column = i / down * shape.columns;
      const Tile tile{.form = form,
                      .a = a,
                      .b = b,
                      .depth = depth,
                      .row = row,
                      .column = column,
                      .rows = std::min(shape.rows, c.rows - row),
                      .columns = std::min(shape.columns, c.columns - column),
                      .c = c.row(row) + column,
                      .ldc = c.stride};
      if (precision == ProductPrecision::kBF16) {
        multiply_bf16(tile);
      } else {
        multiply_f32(tile);
      }
    }
  });
}

void bias_backward(ThreadPool& pool, RowsIn dy, float* dbias) {
  sum_over_rows(pool, dy.rows, dy.columns, dy.columns, [&](std::int64_t row, float* sums) {
    const float* const from = dy.row(row);
    for (std::int64_t n = 0; n < dy.columns; ++n) sums[n] += from[n];
  }).add_to(pool, 0, dy.columns, dbias);
}

}  // namespace krait::kernels
