#include "krait/kernels/eidetic_store.h"

#include <algorithm>
#include <cmath>

#include "krait/core/check.h"

namespace krait::kernels {
namespace {

float innovation(const float* predicted, const float* actual, std::int64_t count) {
  double product = 0.0, left = 0.0, right = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    product += double{predicted[i]} * double{actual[i]};
    left += double{predicted[i]} * double{predicted[i]};
    right += double{actual[i]} * double{actual[i]};
  }
  const double lengths = std::sqrt(left) * std::sqrt(right);
  // What has no direction predicts nothing.
  return static_cast<float>(lengths > 0.0 ? 1.0 - product / lengths : 1.0);
}

// The token to go: of the smallest scores the youngest.
std::int64_t least(const EideticState& state, std::int64_t size) {
  std::int64_t found = 0;
  for (std::int64_t slot = 1; slot < size; ++slot) {
    const float score = state.scores[slot], smallest = state.scores[found];
    if (score < smallest || (score == smallest && state.positions[slot] > state.positions[found])) found = slot;
  }
  return found;
}

// Rows of a cut in which the token of a slot is seen.
struct Lifetime {
  float* first;
  float* end;
  Lifetime(std::vector<float>& lifetimes, std::int64_t slot)
      : first(lifetimes.data() + slot / kKvPageTokens * 2 * kKvPageTokens + slot % kKvPageTokens),
        end(first + kKvPageTokens) {}
  void set(float first_row, float end_row) const {
    *first = first_row;
    *end = end_row;
  }
};

}  // namespace

void innovations(ThreadPool& pool, RowsIn predicted, RowsIn actual, std::span<const SequenceRows> sequences,
                 RowsOut out) {
  KRAIT_CHECK_EQ(predicted.columns, actual.columns);
  KRAIT_CHECK(predicted.rows == actual.rows && actual.rows == out.rows && out.columns == 1, "rows {}, {} and {}",
              predicted.rows, actual.rows, out.rows);
  const std::int64_t columns = actual.columns;
  pool.parallel_for(static_cast<std::int64_t>(sequences.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const SequenceRows& sequence = sequences[static_cast<std::size_t>(i)];
      const float* before = sequence.state_f32();
      for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
        out.row(row)[0] = innovation(before, actual.row(row), columns);
        before = predicted.row(row);
      }
      if (sequence.rows > 0) std::copy_n(before, columns, sequence.state_f32());
    }
  });
}

EideticReading::EideticReading(ThreadPool& pool, const EideticStore& store, std::vector<EideticState> states,
                               std::span<const KvSequence> rings, RowsIn innovations)
    : pool_(pool),
      store_(store),
      states_(std::move(states)),
      rings_(rings),
      innovations_(innovations),
      asides_(states_.size()) {
  KRAIT_CHECK(store.size > 0 && store.window > 0, "a store of {} beside a window of {}", store.size, store.window);
  KRAIT_CHECK_EQ(states_.size(), rings_.size());
  for (const KvSequence& ring : rings_) {
    KRAIT_CHECK(ring.ring != nullptr && ring.ring_pages >= kv_ring_pages(store.window + 1),
                "a ring of {} pages for tokens that leave a window of {}", ring.ring_pages, store.window);
  }
}

void EideticReading::choose(std::span<KvSequence> cut) {
  KRAIT_CHECK_EQ(cut.size(), states_.size());
  pool_.parallel_for(static_cast<std::int64_t>(cut.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      advance(static_cast<std::size_t>(i), cut[static_cast<std::size_t>(i)]);
    }
  });
}

void EideticReading::advance(std::size_t index, KvSequence& share) {
  const EideticState& state = states_[index];
  Aside& aside = asides_[index];
  const std::int64_t size = store_.size, window = store_.window, page_bytes = store_.kv.page_bytes();
  // One token leaves the window a row, and every one of them is taken until the store is full.
  const auto filled = [&](std::int64_t tokens) { return std::clamp<std::int64_t>(tokens - window, 0, size); };
  const std::int64_t pages = kv_pages(filled(share.position + share.rows));
  aside.pages.clear();
  for (std::int64_t i = 0; i < pages; ++i) aside.pages.push_back(state.pages + i * page_bytes);
  aside.lifetimes.assign(static_cast<std::size_t>((pages + 1) * 2 * kKvPageTokens), 0.0F);
  constexpr auto kEnd = static_cast<float>(kKvPageTokens);  // no share has more rows
  for (std::int64_t slot = 0; slot < filled(share.position); ++slot) Lifetime(aside.lifetimes, slot).set(0.0F, kEnd);

  const auto page_of = [&](std::int64_t slot) { return state.pages + slot / kKvPageTokens * page_bytes; };
  std::int64_t put_aside = 0, smallest = -1;
  for (std::int64_t row = 0; row < share.rows; ++row) {
    const std::int64_t token = share.position + row, leaves = token - window;
    float& pending = state.pending[token % window];
    const float score = pending;
    pending = innovations_.row(share.first_row + row)[0];
    if (leaves < 0) continue;
    std::int64_t slot = leaves;
    if (leaves >= size) {
      if (smallest < 0) smallest = least(state, size);
      if (!(score > state.scores[smallest])) continue;
      slot = smallest;
      const Lifetime old(aside.lifetimes, slot);
      if (*old.first < static_cast<float>(row)) {
        if (aside.page.size() == 0) aside.page = AlignedBuffer(static_cast<std::size_t>(page_bytes));
        copy_token(store_.kv, page_of(slot), slot % kKvPageTokens, aside.page.data(), put_aside);
        Lifetime(aside.lifetimes, pages * kKvPageTokens + put_aside).set(*old.first, static_cast<float>(row));
        ++put_aside;
      }
    }
    copy_token(store_.kv, rings_[index].page(leaves / kKvPageTokens, page_bytes), leaves % kKvPageTokens, page_of(slot),
               slot % kKvPageTokens);
    Lifetime(aside.lifetimes, slot).set(static_cast<float>(row), kEnd);
    state.scores[slot] = score;
    state.positions[slot] = leaves;
    smallest = -1;
  }
  if (put_aside > 0) aside.pages.push_back(aside.page.data());
  share.ring = nullptr;
  share.pages = aside.pages.data();
  share.offset = 0;
  share.chosen_pages = static_cast<std::int64_t>(aside.pages.size());
  share.lifetimes = aside.lifetimes.data();
}

}  // namespace krait::kernels
