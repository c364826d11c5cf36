// What both passes of attention over whole sequences share: tokens in tiles of 64, packed as whole vectors and as their
// transposed, queries beside each other, and the products of a block of rows with a tile.
#if defined(KRAIT_KERNELS_SIMD_SEQUENCE_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SEQUENCE_TILES_INL_H_
#undef KRAIT_KERNELS_SIMD_SEQUENCE_TILES_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SEQUENCE_TILES_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/sequence_attention_task.h"
#include "krait/kernels/simd/attention_rows-inl.h"
#include "krait/kernels/simd/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

inline constexpr float kLog2E = 1.44269504F, kLn2 = 0.693147181F;

HWY_INLINE std::int64_t whole_vectors(std::int64_t count) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  return (count + lanes - 1) / lanes * lanes;
}

// C [rows, columns] (+)= A B; with kAdd false C is overwritten. columns: whole vectors.
template <bool kAdd>
HWY_NOINLINE void block_product(std::int64_t rows, std::int64_t columns, const GemmOperands& operands, float* c,
                                std::int64_t ldc) {
  for_gemm_columns(columns, [&](auto vectors, std::int64_t column) {
    for_gemm_rows(rows, [&](auto block_rows, std::int64_t row) {
      GemmBlock<decltype(block_rows)::value, decltype(vectors)::value> sum;
      float* const to = c + row * ldc + column;
      if constexpr (kAdd) {
        sum.load(to, ldc);
      } else {
        sum.clear();
      }
      GemmOperands block = operands;
      block.a += row * operands.a_row;
      block.b += column;
      sum.accumulate(block);
      sum.store(to, ldc);
    });
  });
}

// Columns of a tile's tokens, `width` from `column` on: transposed [width, 64], or as rows [64, padded], whose padding
// is zero. Slots without a token are zero.
HWY_INLINE void pack_transposed(const SourceView& view, const SequenceRows& sequence, RowsIn rows, std::int64_t column,
                                std::int64_t width, std::int64_t tile, float* to) {
  for (std::int64_t slot = 0; slot < kTileTokens; ++slot) {
    const std::int64_t token = view.token(tile, slot, sequence.rows);
    const float* const from = token < 0 ? nullptr : rows.row(sequence.first_row + token) + column;
    for (std::int64_t i = 0; i < width; ++i) to[i * kTileTokens + slot] = from == nullptr ? 0.0F : from[i];
  }
}
HWY_INLINE void pack_rows(const SourceView& view, const SequenceRows& sequence, RowsIn rows, std::int64_t column,
                          std::int64_t width, std::int64_t tile, float* to) {
  const std::int64_t padded = whole_vectors(width);
  for (std::int64_t slot = 0; slot < kTileTokens; ++slot, to += padded) {
    const std::int64_t token = view.token(tile, slot, sequence.rows);
    std::fill_n(to, padded, 0.0F);
    if (token >= 0) std::copy_n(rows.row(sequence.first_row + token) + column, width, to);
  }
}

// Of a listed source's tile: 64 first rows, then 64 end rows. No row sees a slot without a token.
HWY_INLINE void pack_lifetimes(const SourceView& view, std::int64_t tile, float* to) {
  for (std::int64_t slot = 0; slot < kTileTokens; ++slot) {
    const std::int64_t at = tile * kTileTokens + slot;
    const bool there = at < static_cast<std::int64_t>(view.chosen.size());
    to[slot] = there ? static_cast<float>(view.chosen[static_cast<std::size_t>(at)].first) : 0.0F;
    to[kTileTokens + slot] = there ? static_cast<float>(view.chosen[static_cast<std::size_t>(at)].end) : 0.0F;
  }
}

HWY_INLINE SlotsInView row_slots(const SourceView& view, std::int64_t tile, std::int64_t row, const float* lifetimes) {
  if (view.listed) return {.lifetimes = lifetimes, .row = static_cast<float>(row)};
  const TokenRange range = view.in_view(row);
  const std::int64_t begin = (view.first_tile + tile) * kTileTokens;
  return {.from = std::max<std::int64_t>(0, range.from - begin), .to = std::min(range.to - begin, kTileTokens)};
}

// Queries [first, first + count) of a key head, those of one row beside each other, times scale / ln 2.
HWY_INLINE void pack_queries(const Attention& attention, const SequenceRows& sequence, RowsIn q, std::int64_t key_head,
                             std::int64_t first, std::int64_t count, float* to, std::int64_t stride) {
  const std::int64_t group = attention.queries_per_key(), width = attention.kv.key_width;
  const float factor = attention.scale * kLog2E;
  for (std::int64_t row = 0; row < count * group; ++row, to += stride) {
    const float* const from =
        q.row(sequence.first_row + first + row / group) + attention.query_head(key_head, row % group) * width;
    for (std::int64_t i = 0; i < width; ++i) to[i] = factor * from[i];
    std::fill(to + width, to + stride, 0.0F);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
