// The eidetic store of B'MOJO (Zancato et al. 2024): a few tokens that the recurrence could not predict, kept with
// their keys and values for as long as nothing is harder to predict. The paper's test for them is not public in a form
// that could be computed; this one is krait's own (docs/decisions/0008-what-the-eidetic-store-keeps.md):
//   e_j = 1 - cos(f_{j-1}, v_j)        v_j: the values of token j, f_j: the values made of the recurrence after token j
//   store after t = the E tokens j <= t - window with the largest e_j, the older ones where two are equal
// so a token may enter when it leaves the window, and then replaces the one with the smallest e. Nothing is predicted
// before the first token: e_0 is 1. What is kept is a function of the tokens alone, not of how they were cut into
// calls; scores are f32, and two that are closer than their rounding may change places.
#pragma once

#include <span>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/kv_page.h"
#include "krait/kernels/rows.h"
#include "krait/kernels/sequence_attention.h"

namespace krait::kernels {

// out[M, 1] = e of every row, from predicted f [M, C] and actual v [M, C]. Each sequence's state [C] is read as f of
// the token before its first row and left as f of its last.
void innovations(ThreadPool& pool, RowsIn predicted, RowsIn actual, std::span<const SequenceRows> sequences,
                 RowsOut out);

struct EideticStore {
  KvShape kv;
  std::int64_t size = 0;    // E
  std::int64_t window = 0;  // w
};

// Where one sequence's store stands; zero bytes everywhere are an empty one.
struct EideticState {
  std::byte* pages = nullptr;         // kv_pages(E) of them, one after the other
  float* scores = nullptr;            // [E]
  std::int64_t* positions = nullptr;  // [E]
  float* pending = nullptr;           // [w]: e of the tokens in the window, token j at j % w
};

// For whole sequences, in training: which tokens the store of each sequence shows to which of its rows, as
// SequenceSource::chosen takes it. Every token that was ever kept stands in the list once, in the order of the text,
// from the row at which it leaves the window to the one at which a better one takes its place. innovations [M, 1] of
// all rows; sequences begin with their first row. The same tokens as EideticReading chooses, by the same code. The
// choice has no gradient and gives innovations none: gradients flow through the keys and values of chosen tokens
// (docs/decisions/0016-choices-have-no-gradient.md).
std::vector<std::vector<ChosenToken>> eidetic_lifetimes(ThreadPool& pool, std::int64_t size, std::int64_t window,
                                                        RowsIn innovations, std::span<const SequenceRows> sequences);

// What a call of attention reads of the stores, for AttentionSource::choose. While rows of one cut run together, a
// token that leaves the store halfway is kept aside for the rows before.
class EideticReading {
 public:
  // For each sequence its store and the ring that has the keys and values of its last w + 1 tokens; innovations [M, 1]
  // of the rows. All are used until the last choose().
  EideticReading(ThreadPool& pool, const EideticStore& store, std::vector<EideticState> states,
                 std::span<const KvSequence> rings, RowsIn innovations);

  // Advances the stores by the rows of `cut` (one share a sequence, none of which crosses a page) and says what each
  // row sees.
  void choose(std::span<KvSequence> cut);

 private:
  struct Aside {
    std::vector<std::byte*> pages;
    std::vector<float> lifetimes;
    AlignedBuffer page;  // made when it is first needed
  };
  void advance(std::size_t index, KvSequence& share);

  ThreadPool& pool_;
  EideticStore store_;
  std::vector<EideticState> states_;
  std::span<const KvSequence> rings_;
  RowsIn innovations_;
  std::vector<Aside> asides_;
};

}  // namespace krait::kernels
