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

// Which token is in which slot of a store, and what it scored.
class Admission {
 public:
  Admission(std::int64_t size, float* scores, std::int64_t* positions)
      : size_(size), scores_(scores), positions_(positions) {}

  // A token leaves the window: the slot it takes, or -1. Until the store is full it takes every one, in order.
  std::int64_t slot_of(std::int64_t token, float score) {
    std::int64_t slot = token;
    if (token >= size_) {
      if (smallest_ < 0) smallest_ = least();
      if (!(score > scores_[smallest_])) return -1;
      slot = smallest_;
    }
    scores_[slot] = score;
    positions_[slot] = token;
    smallest_ = -1;
    return slot;
  }

 private:
  // The token to go: of the smallest scores the youngest.
  std::int64_t least() const {
    std::int64_t found = 0;
    for (std::int64_t slot = 1; slot < size_; ++slot) {
      const float score = scores_[slot], smallest = scores_[found];
      if (score < smallest || (score == smallest && positions_[slot] > positions_[found])) found = slot;
    }
    return found;
  }

  std::int64_t size_;
  float* scores_;
  std::int64_t* positions_;
  std::int64_t smallest_ = -1;  // -1: not known
};

std::vector<ChosenToken> lifetimes_of(std::int64_t size, std::int64_t window, RowsIn innovations,
                                      const SequenceRows& sequence) {
  std::vector<ChosenToken> result;
  const std::int64_t candidates = std::max<std::int64_t>(0, sequence.rows - window);
  const auto slots = static_cast<std::size_t>(std::min(size, candidates));
  std::vector<float> scores(slots);
  std::vector<std::int64_t> positions(slots);
  std::vector<std::size_t> entries(slots);  // of the result
  Admission admission(size, scores.data(), positions.data());
  for (std::int64_t token = 0; token < candidates; ++token) {
    const std::int64_t slot = admission.slot_of(token, innovations.row(sequence.first_row + token)[0]);
    if (slot < 0) continue;
    const std::int64_t row = token + window;
    std::size_t& entry = entries[static_cast<std::size_t>(slot)];
    if (slot != token) result[entry].end = row;
    entry = result.size();
    result.push_back({token, row, sequence.rows});
  }
  return result;
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

std::vector<std::vector<ChosenToken>> eidetic_lifetimes(ThreadPool& pool, std::int64_t size, std::int64_t window,
                                                        RowsIn innovations, std::span<const SequenceRows> sequences) {
  KRAIT_CHECK(size > 0 && window > 0, "a store of {} beside a window of {}", size, window);
  KRAIT_CHECK_EQ(innovations.columns, 1);
  std::vector<std::vector<ChosenToken>> result(sequences.size());
  pool.parallel_for(static_cast<std::int64_t>(sequences.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const SequenceRows& sequence = sequences[static_cast<std::size_t>(i)];
      KRAIT_CHECK(
          sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= innovations.rows,
          "rows {} + {} of {}", sequence.first_row, sequence.rows, innovations.rows);
      result[static_cast<std::size_t>(i)] = lifetimes_of(size, window, innovations, sequence);
    }
  });
  return result;
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
  Admission admission(size, state.scores, state.positions);
  std::int64_t put_aside = 0;
  for (std::int64_t row = 0; row < share.rows; ++row) {
    const std::int64_t token = share.position + row, leaves = token - window;
    float& pending = state.pending[token % window];
    const float score = pending;
    pending = innovations_.row(share.first_row + row)[0];
    if (leaves < 0) continue;
    const std::int64_t slot = admission.slot_of(leaves, score);
    if (slot < 0) continue;
    if (leaves >= size) {
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
  }
  if (put_aside > 0) aside.pages.push_back(aside.page.data());
  share.ring = nullptr;
  share.pages = aside.pages.data();
  share.offset = 0;
  share.chosen_pages = static_cast<std::int64_t>(aside.pages.size());
  share.lifetimes = aside.lifetimes.data();
}

}  // namespace krait::kernels
