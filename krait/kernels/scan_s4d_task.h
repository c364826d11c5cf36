// How S4D's scan is cut into tasks, forward and backward: a sequence and a few channels.
#pragma once

#include <span>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/scan_s4d.h"

namespace krait::kernels {

// A vector of AVX-512, two of AVX2.
inline constexpr std::int64_t kS4dChannels = 16;

struct S4dTask {
  const SequenceRows* sequence;
  std::int64_t index;         // of the sequence
  std::int64_t first_border;  // of the sequence, in states
  std::int64_t first_channel, channels;
};

inline std::vector<S4dTask> s4d_tasks(const S4dScan& scan, std::span<const SequenceRows> sequences, std::int64_t rows) {
  std::vector<S4dTask> tasks;
  std::int64_t border = 0, index = 0;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, rows);
    for (std::int64_t c = 0; c < scan.channels; c += kS4dChannels) {
      tasks.push_back({&sequence, index, border, c, std::min(kS4dChannels, scan.channels - c)});
    }
    border += s4d_chunks(sequence.rows);
    ++index;
  }
  return tasks;
}

}  // namespace krait::kernels
