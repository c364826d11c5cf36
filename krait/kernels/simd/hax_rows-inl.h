// The rows of one sequence of hax_attention, in two passes: hax_choose() keeps the keys and decides what every row
// reads, hax_read() keeps a block of columns of the values and reads it.
#if defined(KRAIT_KERNELS_SIMD_HAX_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_HAX_ROWS_INL_H_
#undef KRAIT_KERNELS_SIMD_HAX_ROWS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_HAX_ROWS_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/hax_attention_task.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/for_vectors-inl.h"
#include "krait/kernels/simd/hax_query-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// A column of `columns` in a matrix of keys.
HWY_INLINE void put_key(const float* k, std::int64_t width, float* keys, std::int64_t columns, std::int64_t column) {
  for (std::int64_t i = 0; i < width; ++i) keys[i * columns + column] = k[i];
}

// The parts of a sequence's state that hax_choose() works on.
struct HaxKeys {
  const HaxAttention& hax;
  std::int32_t* filled;  // of the best
  std::int32_t* ranks;   // slots of the best, in the order of their scores
  std::int32_t* links;   // the ring's slot of each of the best + 1; 0: no longer in its ring
  float* scores;
  std::int32_t* rings;  // the next place of every ring; R more once it has been round
  float* keys;

  HaxKeys(const HaxAttention& attention, std::byte* state)
      : hax(attention),
        filled(reinterpret_cast<std::int32_t*>(state)),
        ranks(filled + hax.ranks_at()),
        links(filled + hax.links_at()),
        scores(reinterpret_cast<float*>(state) + hax.scores_at()),
        rings(filled + hax.rings_at()),
        keys(reinterpret_cast<float*>(state) + hax.keys_at()) {}

  float* ring_keys(std::int32_t bucket) const { return keys + hax.key_width * (hax.selected + bucket * hax.recent); }
  std::int32_t first_slot(std::int32_t bucket) const {
    return static_cast<std::int32_t>(hax.selected + bucket * hax.recent);
  }

  // Returns the slot.
  std::int32_t keep_recent(std::int32_t bucket, const float* k) const {
    const auto size = static_cast<std::int32_t>(hax.recent);
    std::int32_t& next = rings[bucket];
    const std::int32_t place = next % size, slot = first_slot(bucket) + place;
    if (next >= size) {  // the token that was there is one of the best at most from now on
      for (std::int32_t i = 0; i < *filled; ++i) links[i] = links[i] == slot + 1 ? 0 : links[i];
    }
    put_key(k, hax.key_width, ring_keys(bucket), hax.recent, place);
    next = next + 1 == 2 * size ? size : next + 1;
    return slot;
  }

  // Returns the slot, or -1 where the score is not among the best.
  std::int32_t keep_selected(float score, const float* k, std::int32_t link) const {
    const auto size = static_cast<std::int32_t>(hax.selected);
    std::int32_t slot = *filled, rank = *filled;
    if (*filled < size) {
      ++*filled;
    } else {
      rank = size - 1;
      slot = ranks[rank];
      if (!(score > scores[slot])) return -1;
    }
    for (; rank > 0 && score > scores[ranks[rank - 1]]; --rank) ranks[rank] = ranks[rank - 1];
    ranks[rank] = slot;
    scores[slot] = score;
    links[slot] = link;
    put_key(k, hax.key_width, keys, hax.selected, slot);
    return slot;
  }
};

// Products with all keys that q sees, and the slots they belong to; returns how many.
HWY_INLINE std::int32_t hax_products(const HaxKeys& at, const float* q, std::int32_t bucket, float* scratch,
                                     std::int32_t* slots, float* products) {
  const HaxAttention& hax = at.hax;
  std::int32_t count = 0, first = 0, seen = 0;
  if (hax.recent > 0) {
    first = at.first_slot(bucket);
    seen = std::min(at.rings[bucket], static_cast<std::int32_t>(hax.recent));
    row_times_matrix(q, at.ring_keys(bucket), hax.key_width, hax.recent, scratch);
    for (; count < seen; ++count) {
      slots[count] = first + count;
      products[count] = scratch[count];
    }
  }
  if (*at.filled == 0) return count;
  row_times_matrix(q, at.keys, hax.key_width, hax.selected, scratch);
  for (std::int32_t i = 0; i < *at.filled; ++i) {
    const std::int32_t ring_slot = at.links[i] - 1;
    if (ring_slot >= first && ring_slot < first + seen) continue;
    slots[count] = i;
    products[count++] = scratch[i];
  }
  return count;
}

void hax_choose(const HaxAttention& hax, const HaxInputs& in, const SequenceRows& sequence, const HaxPlan& plan) {
  const HaxKeys at(hax, sequence.state);
  const std::int64_t most = hax.recent + hax.selected;
  float* const scratch = thread_scratch(static_cast<std::size_t>(std::max(hax.recent, hax.selected))).data();
  for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
    const float* const k = in.k.row(row);
    HaxChoice& choice = plan.choices[row];
    choice = {};
    std::int32_t bucket = 0;  // of the query
    if (hax.recent > 0) {
      choice.ring_slot = at.keep_recent(hax_bucket(hax, in.centred_k.row(row)), k);
      bucket = hax_bucket(hax, in.centred_q.row(row));
    }
    if (hax.selected > 0) choice.selected_slot = at.keep_selected(*in.scores.row(row), k, choice.ring_slot + 1);
    float* const weights = plan.weights + row * most;
    choice.count = hax_products(at, in.q.row(row), bucket, scratch, plan.slots + row * most, weights);
    if (choice.count > 0) softmax(weights, choice.count);
  }
}

template <std::size_t kCount, bool kWhole>
HWY_INLINE void hax_read_columns(const HaxAttention& hax, const float* values, const HaxChoice& choice,
                                 const std::int32_t* slots, const float* weights, std::int64_t at, std::size_t part,
                                 float* y) {
  static_assert(kWhole || kCount == 1);
  VecF32 sum[kCount];
  for (std::size_t j = 0; j < kCount; ++j) sum[j] = hn::Zero(F32());
  for (std::int32_t i = 0; i < choice.count; ++i) {
    const VecF32 weight = hn::Set(F32(), weights[i]);
    const float* const from = values + slots[i] * hax.value_width + at;
    for (std::size_t j = 0; j < kCount; ++j) sum[j] = hn::MulAdd(weight, load<kWhole>(from + j * kLanes, part), sum[j]);
  }
  for (std::size_t j = 0; j < kCount; ++j) {
    float* const to = y + at + j * kLanes;
    const VecF32 scale = load<kWhole>(hax.output_scale + at + j * kLanes, part);
    store<kWhole>(hn::MulAdd(scale, sum[j], load<kWhole>(to, part)), to, part);
  }
}

// Columns [first, last) of the values.
void hax_read(const HaxAttention& hax, RowsIn v, const SequenceRows& sequence, const HaxPlan& plan, std::int64_t first,
              std::int64_t last, RowsOut y) {
  constexpr std::size_t kBlock = 4;  // vectors
  constexpr auto lanes = static_cast<std::int64_t>(kLanes), block = static_cast<std::int64_t>(kBlock) * lanes;
  float* const values = sequence.state_f32() + hax.values_at();
  const std::int64_t most = hax.recent + hax.selected;
  for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
    const HaxChoice& choice = plan.choices[row];
    for (const std::int32_t slot : {choice.ring_slot, choice.selected_slot}) {
      if (slot >= 0) std::copy(v.row(row) + first, v.row(row) + last, values + slot * hax.value_width + first);
    }
    const std::int32_t* const slots = plan.slots + row * most;
    const float* const weights = plan.weights + row * most;
    std::int64_t at = first;
    for (; at + block <= last; at += block) {
      hax_read_columns<kBlock, true>(hax, values, choice, slots, weights, at, kLanes, y.row(row));
    }
    for (; at + lanes <= last; at += lanes) {
      hax_read_columns<1, true>(hax, values, choice, slots, weights, at, kLanes, y.row(row));
    }
    if (at < last) {
      hax_read_columns<1, false>(hax, values, choice, slots, weights, at, static_cast<std::size_t>(last - at),
                                 y.row(row));
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
