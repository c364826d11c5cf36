// How attention over whole sequences is cut: a part is a run of rows of one sequence, with what each source shows to
// them in tiles of 64 tokens; a task is a part and a head. Internal to the kernels, forward and backward.
#pragma once

#include <algorithm>
#include <vector>

#include "krait/kernels/attention_task.h"
#include "krait/kernels/sequence_attention.h"

namespace krait::kernels {

inline constexpr std::int64_t kTileTokens = kKvPageTokens;

// Tokens [from, to) of a sequence, or slots of a tile.
struct TokenRange {
  std::int64_t from = 0, to = 0;
  bool empty() const { return from >= to; }
  std::int64_t count() const { return to - from; }
};

// What the rows of a part see of one source.
struct SourceView {
  const SequenceSource<float>* source = nullptr;
  std::int64_t prefix = 0;
  bool listed = false;              // by `chosen`, those that some row of the part sees
  std::vector<ChosenToken> chosen;  // slot by slot
  std::int64_t first_tile = 0, tiles = 0;

  // Of a source that is not listed. Neither end ever goes back from one row to the next.
  TokenRange in_view(std::int64_t row) const {
    if (row < prefix) return {0, prefix};
    const std::int64_t last = row - source->delay;
    return {source->window > 0 ? std::max<std::int64_t>(0, last + 1 - source->window) : 0,
            std::max<std::int64_t>(0, last + 1)};
  }

  // Slots of a tile that hold all that rows [first, first + count) see of it; none: they see nothing. They begin with a
  // whole vector.
  TokenRange slots_in_view(std::int64_t tile, std::int64_t first, std::int64_t count) const {
    constexpr std::int64_t kWidestVector = 16;
    const std::int64_t begin = (first_tile + tile) * kTileTokens;
    TokenRange slots{kTileTokens, 0};
    if (listed) {
      const auto end = std::min(begin + kTileTokens, static_cast<std::int64_t>(chosen.size()));
      for (std::int64_t i = begin; i < end; ++i) {
        const ChosenToken& one = chosen[static_cast<std::size_t>(i)];
        if (one.first >= first + count || first >= one.end) continue;
        slots = {std::min(slots.from, i - begin), i + 1 - begin};
      }
    } else {
      slots = {std::max<std::int64_t>(0, in_view(first).from - begin),
               std::min(in_view(first + count - 1).to - begin, kTileTokens)};
    }
    slots.from -= slots.from % kWidestVector;
    return slots;
  }

  // The token in a slot; -1 where there is none.
  std::int64_t token(std::int64_t tile, std::int64_t slot, std::int64_t sequence_rows) const {
    const std::int64_t at = (first_tile + tile) * kTileTokens + slot;
    if (!listed) return at < sequence_rows ? at : -1;
    return at < static_cast<std::int64_t>(chosen.size()) ? chosen[static_cast<std::size_t>(at)].token : -1;
  }
};

struct SequencePart {
  SequenceRows sequence;
  std::size_t index = 0;             // of the sequence
  std::int64_t first = 0, rows = 0;  // of the sequence
  std::vector<SourceView> views;     // one for each source
};

// Rows that are multiplied together: so many queries of all query heads of a key head, in both passes.
inline std::int64_t queries_per_block(const Attention& attention) {
  return std::max<std::int64_t>(1, kAttentionRows / attention.queries_per_key());
}

// Rows [first, first + rows) of sequence `index`.
SequencePart part_of(std::span<const SequenceSource<float>> sources, const AttentionSequences& sequences,
                     std::size_t index, std::int64_t first, std::int64_t rows);

// Parts of all sequences, whole blocks of `block` queries each: as many for a sequence as make, with `heads` tasks for
// each part, enough tasks for the threads of a machine.
std::vector<SequencePart> cut_sequences(std::span<const SequenceSource<float>> sources,
                                        const AttentionSequences& sequences, std::int64_t heads, std::int64_t block);

void check_sequence_attention(const Attention& attention, std::span<const SequenceSource<float>> sources,
                              const AttentionSequences& sequences, std::int64_t rows);

// One key head of a part.
struct SequenceAttentionTask {
  const Attention* attention = nullptr;
  const SequencePart* part = nullptr;
  std::int64_t key_head = 0;
  RowsOut out, lse;
};

// Where a task adds its gradients of keys and values: rows of tokens first_token and later, the columns of the task's
// heads. Null: nobody wants them.
struct KeyValueSums {
  float *k = nullptr, *v = nullptr;
  std::int64_t k_stride = 0, v_stride = 0;
  std::int64_t first_token = 0;

  float* k_row(std::int64_t token) const { return k + (token - first_token) * k_stride; }
  float* v_row(std::int64_t token) const { return v + (token - first_token) * v_stride; }
};

// One value head of a part, with the key heads that share it.
struct SequenceBackwardTask {
  const Attention* attention = nullptr;
  const SequencePart* part = nullptr;
  std::int64_t value_head = 0;
  RowsIn out, lse, out_gradient;
  std::vector<KeyValueSums> sums;  // one for each source
  std::vector<RowsOut> q;          // the same: their gradients
  std::vector<bool> adds_q;        // to what an earlier source has written
};

}  // namespace krait::kernels
