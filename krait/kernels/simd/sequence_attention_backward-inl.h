// Backward of attention over whole sequences, one value head of a part. For each tile of 64 tokens and each block of
// rows that sees it, with everything in whole vectors and cache:
//   S = Q K^T, P = 2^(S - lse), dP = dO V^T, dS = P o (dP - D);  dV += P^T dO, dK += dS^T Q, dQ += dS K
// Q is kept times scale / ln 2, so that S is in units of ln 2; dK makes up for it by a factor ln 2, dQ by scale.
#if defined(KRAIT_KERNELS_SIMD_SEQUENCE_ATTENTION_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SEQUENCE_ATTENTION_BACKWARD_INL_H_
#undef KRAIT_KERNELS_SIMD_SEQUENCE_ATTENTION_BACKWARD_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SEQUENCE_ATTENTION_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/for_vectors-inl.h"
#include "krait/kernels/simd/sequence_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Of all query heads of a task, head by head of the keys, then query by query.
struct BackwardRows {
  float *q, *q_gradient;  // [rows, padded Dk]
  float* out_gradient;    // [rows, padded Dv]
  float *lse, *mean;      // [rows]: in units of ln 2; D
};

// Of one tile and one key head, but values and their gradients, which the key heads share.
struct BackwardTile {
  float *keys_transposed, *keys, *key_gradients;  // [Dk, 64], [64, padded Dk] twice
  float *values_transposed, *value_gradients;     // [Dv, 64], [64, padded Dv]
  float *scores, *products;                       // [block, 64]
  float* lifetimes;                               // [128]
};

HWY_INLINE float dot(const float* left, const float* right, std::int64_t count) {
  VecF32 sum = hn::Zero(F32());
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    sum = hn::MulAdd(load<kWhole>(left + i, part), load<kWhole>(right + i, part), sum);
  });
  return sum_lanes(sum);
}

// What all sources share: dO, lse and D.
HWY_INLINE void pack_outputs(const SequenceBackwardTask& task, const BackwardRows& rows) {
  const Attention& attention = *task.attention;
  const SequencePart& part = *task.part;
  const std::int64_t group = attention.queries_per_key(), width = attention.kv.value_width;
  const std::int64_t padded = whole_vectors(width), streams = attention.streams();
  for (std::int64_t i = 0; i < streams * part.rows * group; ++i) {
    const std::int64_t key_head = task.value_head * streams + i / (part.rows * group);
    const std::int64_t row = part.sequence.first_row + part.first + i / group % part.rows;
    const std::int64_t head = attention.query_head(key_head, i % group);
    const float* const from = task.out_gradient.row(row) + head * width;
    float* const to = rows.out_gradient + i * padded;
    std::copy_n(from, width, to);
    std::fill(to + width, to + padded, 0.0F);
    rows.lse[i] = kLog2E * task.lse.row(row)[head];
    rows.mean[i] = dot(from, task.out.row(row) + head * width, width);
  }
}

// Scores become probabilities, products of dO and V the gradients of scores.
HWY_INLINE void score_gradients(float* scores, float* products, const SlotsInView& view, float lse, float mean) {
  const F32 d;
  VecF32 p[kPageVectors], ds[kPageVectors];
  const VecF32 logarithm = hn::Set(d, lse), d_mean = hn::Set(d, mean);
  for (std::size_t j = 0; j < kPageVectors; ++j) p[j] = hn::Sub(hn::LoadU(d, scores + j * kLanes), logarithm);
  exp2_f32(p);
  for (std::size_t j = 0; j < kPageVectors; ++j) {
    ds[j] = hn::Mul(p[j], hn::Sub(hn::LoadU(d, products + j * kLanes), d_mean));
  }
  if (view.lifetimes != nullptr) {
    const VecF32 row = hn::Set(d, view.row);
    for (std::size_t j = 0; j < kPageVectors; ++j) {
      const VecF32 first = hn::LoadU(d, view.lifetimes + j * kLanes);
      const VecF32 end = hn::LoadU(d, view.lifetimes + kTileTokens + j * kLanes);
      const auto seen = hn::And(hn::Le(first, row), hn::Lt(row, end));
      p[j] = hn::IfThenElseZero(seen, p[j]);
      ds[j] = hn::IfThenElseZero(seen, ds[j]);
    }
  } else if (view.from > 0 || view.to < kTileTokens) {
    const VecF32 low = hn::Set(d, static_cast<float>(view.from)), high = hn::Set(d, static_cast<float>(view.to));
    for (std::size_t j = 0; j < kPageVectors; ++j) {
      const VecF32 slot = hn::Iota(d, static_cast<float>(j * kLanes));
      const auto seen = hn::And(hn::Ge(slot, low), hn::Lt(slot, high));
      p[j] = hn::IfThenElseZero(seen, p[j]);
      ds[j] = hn::IfThenElseZero(seen, ds[j]);
    }
  }
  for (std::size_t j = 0; j < kPageVectors; ++j) {
    hn::StoreU(p[j], d, scores + j * kLanes);
    hn::StoreU(ds[j], d, products + j * kLanes);
  }
}

// Queries [first, first + count) of the sequence, rows [at, …) of `rows`, against those slots of one tile that they
// see.
HWY_NOINLINE void backward_block(const SequenceBackwardTask& task, const SourceView& view, std::int64_t tile_index,
                                 std::int64_t first, std::int64_t count, std::int64_t at, const TokenRange& slots,
                                 const BackwardRows& rows, const BackwardTile& tile) {
  const KvShape& kv = task.attention->kv;
  const std::int64_t group = task.attention->queries_per_key(), n = count * group;
  const std::int64_t key_width = whole_vectors(kv.key_width), value_width = whole_vectors(kv.value_width);
  const float* const q = rows.q + at * key_width;
  const float* const out_gradient = rows.out_gradient + at * value_width;
  const auto against_slots = [&](const float* left, std::int64_t k, std::int64_t stride, const float* transposed,
                                 float* to) {
    block_product<false>(
        n, whole_vectors(slots.count()),
        {.k = k, .a = left, .a_row = stride, .a_column = 1, .b = transposed + slots.from, .ldb = kTileTokens},
        to + slots.from, kTileTokens);
  };
  against_slots(q, kv.key_width, key_width, tile.keys_transposed, tile.scores);
  against_slots(out_gradient, kv.value_width, value_width, tile.values_transposed, tile.products);
  for (std::int64_t row = 0; row < n; ++row) {
    score_gradients(tile.scores + row * kTileTokens, tile.products + row * kTileTokens,
                    row_slots(view, tile_index, first + row / group, tile.lifetimes), rows.lse[at + row],
                    rows.mean[at + row]);
  }
  const auto onto_slots = [&](const float* factors, const float* right, std::int64_t width, float* to) {
    block_product<true>(
        slots.count(), width,
        {.k = n, .a = factors + slots.from, .a_row = 1, .a_column = kTileTokens, .b = right, .ldb = width},
        to + slots.from * width, width);
  };
  onto_slots(tile.scores, out_gradient, value_width, tile.value_gradients);
  onto_slots(tile.products, q, key_width, tile.key_gradients);
  block_product<true>(n, key_width,
                      {.k = slots.count(),
                       .a = tile.products + slots.from,
                       .a_row = kTileTokens,
                       .a_column = 1,
                       .b = tile.keys + slots.from * key_width,
                       .ldb = key_width},
                      rows.q_gradient + at * key_width, key_width);
}

// Adds a tile's gradients to those of its tokens.
HWY_INLINE void add_tile(const SourceView& view, std::int64_t sequence_rows, std::int64_t tile, const float* from,
                         std::int64_t width, float factor, float* first_row, std::int64_t stride,
                         std::int64_t first_token) {
  const F32 d;
  for (std::int64_t slot = 0; slot < kTileTokens; ++slot, from += whole_vectors(width)) {
    const std::int64_t token = view.token(tile, slot, sequence_rows);
    if (token < 0) continue;
    float* const to = first_row + (token - first_token) * stride;
    for_vectors(width, [&](auto whole, std::int64_t i, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      const VecF32 sum = hn::MulAdd(hn::Set(d, factor), load<kWhole>(from + i, part), load<kWhole>(to + i, part));
      store<kWhole>(sum, to + i, part);
    });
  }
}

HWY_INLINE void backward_tile(const SequenceBackwardTask& task, const SourceView& view, std::int64_t index,
                              const KeyValueSums& sums, const BackwardRows& rows, const BackwardTile& tile) {
  const Attention& attention = *task.attention;
  const SequencePart& part = *task.part;
  const KvShape& kv = attention.kv;
  const std::int64_t group = attention.queries_per_key(), streams = attention.streams();
  const std::int64_t queries = queries_per_block(attention);
  pack_transposed(view, part.sequence, view.source->v, task.value_head * kv.value_width, kv.value_width, index,
                  tile.values_transposed);
  if (view.listed) pack_lifetimes(view, index, tile.lifetimes);
  std::fill_n(tile.value_gradients, kTileTokens * whole_vectors(kv.value_width), 0.0F);
  for (std::int64_t stream = 0; stream < streams; ++stream) {
    const std::int64_t column = (task.value_head * streams + stream) * kv.key_width;
    pack_transposed(view, part.sequence, view.source->k, column, kv.key_width, index, tile.keys_transposed);
    pack_rows(view, part.sequence, view.source->k, column, kv.key_width, index, tile.keys);
    std::fill_n(tile.key_gradients, kTileTokens * whole_vectors(kv.key_width), 0.0F);
    for (std::int64_t query = 0; query < part.rows; query += queries) {
      const std::int64_t count = std::min(queries, part.rows - query);
      const TokenRange slots = view.slots_in_view(index, part.first + query, count);
      if (slots.empty()) continue;
      backward_block(task, view, index, part.first + query, count, (stream * part.rows + query) * group, slots, rows,
                     tile);
    }
    if (sums.k != nullptr) {
      add_tile(view, part.sequence.rows, index, tile.key_gradients, kv.key_width, kLn2, sums.k + stream * kv.key_width,
               sums.k_stride, sums.first_token);
    }
  }
  if (sums.v == nullptr) return;
  add_tile(view, part.sequence.rows, index, tile.value_gradients, kv.value_width, 1.0F, sums.v, sums.v_stride,
           sums.first_token);
}

HWY_INLINE void write_query_gradients(const SequenceBackwardTask& task, const float* from, RowsOut q, bool add) {
  const Attention& attention = *task.attention;
  const SequencePart& part = *task.part;
  const std::int64_t group = attention.queries_per_key(), width = attention.kv.key_width;
  const std::int64_t streams = attention.streams();
  for (std::int64_t i = 0; i < streams * part.rows * group; ++i, from += whole_vectors(width)) {
    const std::int64_t key_head = task.value_head * streams + i / (part.rows * group);
    float* const to = q.row(part.sequence.first_row + part.first + i / group % part.rows) +
                      attention.query_head(key_head, i % group) * width;
    for (std::int64_t c = 0; c < width; ++c) to[c] = (add ? to[c] : 0.0F) + attention.scale * from[c];
  }
}

void attend_part_backward(const SequenceBackwardTask& task) {
  const Attention& attention = *task.attention;
  const SequencePart& part = *task.part;
  const KvShape& kv = attention.kv;
  const std::int64_t group = attention.queries_per_key(), streams = attention.streams();
  const std::int64_t key_width = whole_vectors(kv.key_width), value_width = whole_vectors(kv.value_width);
  const std::int64_t all = streams * part.rows * group;
  const std::int64_t block = queries_per_block(attention) * group;
  const std::int64_t floats = all * (2 * key_width + value_width + 2) + 2 * kTileTokens * (block + 1) +
                              kTileTokens * (kv.key_width + 2 * key_width + kv.value_width + value_width);
  float* next = thread_scratch(static_cast<std::size_t>(floats)).data();
  const auto take = [&](std::int64_t count) { return std::exchange(next, next + count); };
  BackwardTile tile{};
  tile.scores = take(block * kTileTokens);
  tile.products = take(block * kTileTokens);
  tile.keys_transposed = take(kv.key_width * kTileTokens);
  tile.keys = take(kTileTokens * key_width);
  tile.key_gradients = take(kTileTokens * key_width);
  tile.values_transposed = take(kv.value_width * kTileTokens);
  tile.value_gradients = take(kTileTokens * value_width);
  tile.lifetimes = take(2 * kTileTokens);
  BackwardRows rows{};
  rows.q = take(all * key_width);
  rows.q_gradient = take(all * key_width);
  rows.out_gradient = take(all * value_width);
  rows.lse = take(all);
  rows.mean = take(all);
  pack_outputs(task, rows);
  for (std::size_t s = 0; s < part.views.size(); ++s) {
    const SourceView& view = part.views[s];
    for (std::int64_t stream = 0; stream < streams; ++stream) {
      pack_queries(attention, part.sequence, view.source->q, task.value_head * streams + stream, part.first, part.rows,
                   rows.q + stream * part.rows * group * key_width, key_width);
    }
    std::fill_n(rows.q_gradient, all * key_width, 0.0F);
    for (std::int64_t index = 0; index < view.tiles; ++index) {
      backward_tile(task, view, index, task.sums[s], rows, tile);
    }
    if (!task.q[s].empty()) write_query_gradients(task, rows.q_gradient, task.q[s], task.adds_q[s]);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
