// Attention over whole sequences, one key head of a part (sequence_attention_task.h): keys are transposed and values
// copied once, in tiles of 64 tokens of whole vectors; then, block of rows by block, scores S = Q K of a tile, their
// softmax brought up to date (attention_rows-inl.h), and O += P V.
#if defined(KRAIT_KERNELS_SIMD_SEQUENCE_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SEQUENCE_ATTENTION_INL_H_
#undef KRAIT_KERNELS_SIMD_SEQUENCE_ATTENTION_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SEQUENCE_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/sequence_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// All tiles of a source for one key head.
struct SourceTiles {
  const float *keys, *values, *lifetimes;  // [tiles, Dk, 64], [tiles, 64, padded Dv], [tiles, 128] where listed
};

// Working memory of a block of rows.
struct AttentionBlock {
  float *q, *scores, *sums, *maxima, *totals;
};

HWY_NOINLINE void attend_tiles(const SequenceAttentionTask& task, const SourceView& view, const SourceTiles& tiles,
                               std::int64_t first, std::int64_t count, const AttentionBlock& block) {
  const F32 d;
  const KvShape& kv = task.attention->kv;
  const std::int64_t group = task.attention->queries_per_key(), rows = count * group;
  const std::int64_t width = whole_vectors(kv.value_width);
  pack_queries(*task.attention, task.part->sequence, view.source->q, task.key_head, first, count, block.q,
               kv.key_width);
  for (std::int64_t tile = 0; tile < view.tiles; ++tile) {
    const TokenRange slots = view.slots_in_view(tile, first, count);
    if (slots.empty()) continue;
    block_product<false>(rows, whole_vectors(slots.count()),
                         {.k = kv.key_width,
                          .a = block.q,
                          .a_row = kv.key_width,
                          .a_column = 1,
                          .b = tiles.keys + tile * kv.key_width * kTileTokens + slots.from,
                          .ldb = kTileTokens},
                         block.scores + slots.from, kTileTokens);
    for (std::int64_t row = 0; row < rows; ++row) {
      float* const scores = block.scores + row * kTileTokens;
      const SlotsInView seen = row_slots(view, tile, first + row / group, tiles.lifetimes + tile * 2 * kTileTokens);
      if (seen.from < seen.to) {
        update_row(scores, seen, nullptr, nullptr, block.sums + row * width, width, block.maxima[row],
                   block.totals[row]);
      } else {
        for (std::size_t j = 0; j < kPageVectors; ++j) hn::StoreU(hn::Zero(d), d, scores + j * kLanes);
      }
    }
    block_product<true>(rows, width,
                        {.k = slots.count(),
                         .a = block.scores + slots.from,
                         .a_row = kTileTokens,
                         .a_column = 1,
                         .b = tiles.values + (tile * kTileTokens + slots.from) * width,
                         .ldb = width},
                        block.sums, width);
  }
}

HWY_INLINE void finish_block(const SequenceAttentionTask& task, std::int64_t first, std::int64_t count,
                             const AttentionBlock& block) {
  const Attention& attention = *task.attention;
  const std::int64_t group = attention.queries_per_key(), width = attention.kv.value_width;
  for (std::int64_t row = 0; row < count * group; ++row) {
    const std::int64_t at = task.part->sequence.first_row + first + row / group;
    const std::int64_t head = attention.query_head(task.key_head, row % group);
    const float total = block.totals[row], factor = total > 0.0F ? 1.0F / total : 0.0F;
    const float* const from = block.sums + row * whole_vectors(width);
    float* const to = task.out.row(at) + head * width;
    for (std::int64_t i = 0; i < width; ++i) to[i] = factor * from[i];
    if (task.lse.empty()) continue;
    task.lse.row(at)[head] =
        total > 0.0F ? kLn2 * (block.maxima[row] + std::log2(total)) : -std::numeric_limits<float>::infinity();
  }
}

void attend_part(const SequenceAttentionTask& task) {
  const Attention& attention = *task.attention;
  const SequencePart& part = *task.part;
  const KvShape& kv = attention.kv;
  const std::int64_t queries = queries_per_block(attention), rows = queries * attention.queries_per_key();
  const std::int64_t width = whole_vectors(kv.value_width), tile_floats = kTileTokens * (kv.key_width + width + 2);
  std::int64_t floats = rows * (kv.key_width + kTileTokens + width + 2);
  for (const SourceView& view : part.views) floats += view.tiles * tile_floats;
  float* next = thread_scratch(static_cast<std::size_t>(floats)).data();
  const auto take = [&](std::int64_t count) { return std::exchange(next, next + count); };
  std::vector<SourceTiles> tiles(part.views.size());
  for (std::size_t s = 0; s < part.views.size(); ++s) {
    const SourceView& view = part.views[s];
    float* const keys = take(view.tiles * kv.key_width * kTileTokens);
    float* const values = take(view.tiles * kTileTokens * width);
    float* const lifetimes = take(view.tiles * 2 * kTileTokens);
    for (std::int64_t tile = 0; tile < view.tiles; ++tile) {
      pack_transposed(view, part.sequence, view.source->k, task.key_head * kv.key_width, kv.key_width, tile,
                      keys + tile * kv.key_width * kTileTokens);
      pack_rows(view, part.sequence, view.source->v, task.key_head / attention.streams() * kv.value_width,
                kv.value_width, tile, values + tile * kTileTokens * width);
      if (view.listed) pack_lifetimes(view, tile, lifetimes + tile * 2 * kTileTokens);
    }
    tiles[s] = {keys, values, lifetimes};
  }
  float* const scores = take(rows * kTileTokens);
  float* const sums = take(rows * width);
  float* const q = take(rows * kv.key_width);
  float* const maxima = take(rows);
  const AttentionBlock block = {q, scores, sums, maxima, take(rows)};
  for (std::int64_t first = part.first; first < part.first + part.rows; first += queries) {
    const std::int64_t count = std::min(queries, part.first + part.rows - first);
    std::fill_n(block.sums, rows * width, 0.0F);
    std::fill_n(block.maxima, rows, kNoScore);
    std::fill_n(block.totals, rows, 0.0F);
    for (std::size_t s = 0; s < part.views.size(); ++s) {
      attend_tiles(task, part.views[s], tiles[s], first, count, block);
    }
    finish_block(task, first, count, block);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
