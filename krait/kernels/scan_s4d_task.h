// How S4D's scan is cut into tasks, forward and backward: a few sequences, or a long one, and a few channels.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/scan_s4d.h"

namespace krait::kernels {

// A vector of AVX-512, two of AVX2.
inline constexpr std::int64_t kS4dChannels = 16;

// Sequences of a task have so many rows together, where there are so many: what is made of z and w alone is made once
// for them. Sums of a sequence depend on none beside it.
inline constexpr std::int64_t kS4dTaskRows = 1024;

struct S4dTask {
  std::span<const SequenceRows> sequences;
  std::int64_t index;         // of the first
  std::int64_t first_border;  // of the first, in states
  std::int64_t first_channel, channels;
};

inline std::vector<S4dTask> s4d_tasks(const S4dScan& scan, std::span<const SequenceRows> sequences, std::int64_t rows) {
  std::vector<S4dTask> tasks;
  std::size_t begin = 0;
  std::int64_t first_border = 0, border = 0, together = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRows& sequence = sequences[i];
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, rows);
    border += s4d_chunks(sequence.rows);
    together += sequence.rows;
    if (together < kS4dTaskRows && i + 1 < sequences.size()) continue;
    for (std::int64_t c = 0; c < scan.channels; c += kS4dChannels) {
      tasks.push_back({sequences.subspan(begin, i + 1 - begin), static_cast<std::int64_t>(begin), first_border, c,
                       std::min(kS4dChannels, scan.channels - c)});
    }
    begin = i + 1;
    first_border = border;
    together = 0;
  }
  return tasks;
}

}  // namespace krait::kernels
