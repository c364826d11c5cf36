// How HAX over whole sequences is cut, and its weights between the two halves of the backward pass. Internal to the
// kernels.
#pragma once

#include <algorithm>
#include <vector>

#include "krait/kernels/hax_sequence_backward.h"

namespace krait::kernels {

// Rows [first, first + rows) of the matrices, of one sequence.
struct HaxRun {
  std::int64_t first = 0, rows = 0;
};

// A few dozen rows make a task: each reads some hundred kilobytes of values.
inline std::vector<HaxRun> hax_runs(std::span<const SequenceRows> sequences) {
  constexpr std::int64_t kRows = 32;
  std::vector<HaxRun> runs;
  for (const SequenceRows& sequence : sequences) {
    for (std::int64_t row = 0; row < sequence.rows; row += kRows) {
      runs.push_back({sequence.first_row + row, std::min(kRows, sequence.rows - row)});
    }
  }
  return runs;
}

void check_hax_reads(const HaxReads<float>& in, std::span<const SequenceRows> sequences, std::int64_t rows);

// Of every token the rows that read it, and what they make of it: entries [starts[token], starts[token + 1]).
struct HaxReaders {
  const std::int64_t* starts = nullptr;  // [M + 1]
  const std::int32_t* rows = nullptr;
  const float *weights = nullptr, *score_gradients = nullptr;
};

// Softmax and its gradient of every row, as its tokens stand: [M, R + S].
struct HaxWeights {
  float *weights = nullptr, *score_gradients = nullptr;
};

}  // namespace krait::kernels
