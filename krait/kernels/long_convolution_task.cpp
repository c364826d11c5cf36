#include "krait/kernels/long_convolution_task.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::kernels {
namespace {

// Without the taps that read nothing, a tap at lag l needs l values of padding, whichever way it looks.
std::int64_t transform_length(const LongConvolution& convolution, std::int64_t rows) {
  const std::int64_t behind = std::min(convolution.kernel.columns, rows) - 1;
  const std::int64_t ahead = std::min(convolution.ahead.columns + convolution.first_ahead, rows) - 1;
  return good_fft_length(rows + std::max<std::int64_t>({0, behind, convolution.ahead.empty() ? 0 : ahead}));
}

}  // namespace

ConvolutionTasks::ConvolutionTasks(const LongConvolution& convolution, RowsIn x,
                                   std::span<const SequenceRows> sequences, std::int64_t blocks) {
  KRAIT_CHECK_EQ(convolution.kernel.rows, x.columns);
  KRAIT_CHECK(convolution.ahead.empty() || convolution.ahead.rows == x.columns, "{} rows of the kernel ahead for {}",
              convolution.ahead.rows, x.columns);
  KRAIT_CHECK(convolution.first_ahead >= 0, "a kernel ahead that begins at {}", convolution.first_ahead);
  std::vector<std::pair<std::int64_t, const SequenceRows*>> ordered;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= x.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, x.rows);
    if (sequence.rows > 0) ordered.emplace_back(transform_length(convolution, sequence.rows), &sequence);
  }
  std::ranges::sort(ordered);  // those of one length as the caller has them, since they stand in one array
  // Enough tasks for the threads of a large machine where there are few channels.
  constexpr std::int64_t kTasks = 32;
  const auto count = static_cast<std::int64_t>(ordered.size());
  const std::int64_t cuts = std::min(count, (kTasks + blocks - 1) / std::max<std::int64_t>(1, blocks));
  for (std::int64_t cut = 0; cut < cuts; ++cut) {
    std::vector<ConvolutionBatch>& batches = groups.emplace_back();
    for (std::int64_t i = cut * count / cuts; i < (cut + 1) * count / cuts; ++i) {
      const auto& [length, sequence] = ordered[static_cast<std::size_t>(i)];
      if (plans.empty() || plans.back().length() != length) plans.emplace_back(length);
      if (batches.empty() || batches.back().plan != &plans.back()) {
        batches.push_back({.plan = &plans.back(), .sequences = {}});
      }
      batches.back().sequences.push_back(*sequence);
    }
  }
  longest = plans.empty() ? 0 : plans.back().points() + 1;
}

}  // namespace krait::kernels
