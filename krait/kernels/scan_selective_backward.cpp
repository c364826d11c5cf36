#include "krait/kernels/scan_selective_backward.h"

#include <algorithm>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_selective_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/selective_backward-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(selective_backward_task);
HWY_EXPORT(selective_backward_scratch_bytes);

// The sums over sequences of the gradients of parameters are cut in so many at most, whatever the number of threads.
constexpr std::int64_t kShares = 16;

void check_shapes(const SelectiveScan& scan, const SelectiveScanInputs& in, RowsIn dy,
                  const SelectiveScanGradients& gradients) {
  KRAIT_CHECK(scan.groups > 0 && scan.channels % scan.groups == 0, "{} channels in {} groups", scan.channels,
              scan.groups);
  KRAIT_CHECK(scan.states > 0, "{} states", scan.states);
  KRAIT_CHECK(dy.rows == 0 || in.z.empty() == gradients.z.empty(), "z is given: {}, and its gradient: {}",
              !in.z.empty(), !gradients.z.empty());
  for (const RowsIn& rows : {in.x, in.dt, dy, RowsIn(gradients.x), RowsIn(gradients.dt)}) {
    KRAIT_CHECK_EQ(rows.columns, scan.channels);
  }
  for (const RowsIn& rows : {in.z, RowsIn(gradients.z)}) {
    KRAIT_CHECK(rows.empty() || rows.columns == scan.channels, "{} columns of z", rows.columns);
  }
  for (const RowsIn& rows : {in.b, in.c, RowsIn(gradients.b), RowsIn(gradients.c)}) {
    KRAIT_CHECK_EQ(rows.columns, scan.groups * scan.states);
  }
}

}  // namespace

void selective_scan_backward(ThreadPool& pool, const SelectiveScan& scan, const SelectiveScanInputs& in,
                             std::span<const SequenceRows> sequences, const float* borders, RowsIn dy,
                             std::span<const SequenceGradients> states, const SelectiveScanGradients& gradients) {
  check_shapes(scan, in, dy, gradients);
  KRAIT_CHECK(states.empty() || states.size() == sequences.size(), "states of {} sequences for {}", states.size(),
              sequences.size());
  const std::int64_t channels = scan.channels, width = channels / scan.groups;
  std::vector<SelectiveBackwardSequence> parts;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRows& sequence = sequences[i];
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= dy.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, dy.rows);
    parts.push_back({sequence.first_row, sequence.rows, borders, states.empty() ? SequenceGradients() : states[i]});
    borders += selective_chunks({&sequence, 1}) * scan.states * channels;
  }
  const std::int64_t blocks_per_group = (width + kBlockChannels - 1) / kBlockChannels;
  const std::int64_t blocks = blocks_per_group * scan.groups;
  const std::int64_t count = static_cast<std::int64_t>(parts.size());
  const std::int64_t shares = std::min(kShares, count);
  // Sums of parameters [shares][N + 2, E]; of B and C [blocks][M, N], where a group has several blocks.
  const std::int64_t share_floats = (scan.states + 2) * channels;
  const std::int64_t block_floats = blocks_per_group > 1 ? dy.rows * scan.states : 0;
  thread_local AlignedBuffer sums;
  const auto bytes = static_cast<std::size_t>(shares * share_floats + 2 * blocks * block_floats) * sizeof(float);
  if (sums.size() < bytes) sums = AlignedBuffer(bytes);
  float* const share_sums = sums.as<float>().data();
  float* const block_sums = share_sums + shares * share_floats;
  const auto block_rows = [&](std::int64_t block, bool of_c) -> RowsOut {
    const RowsOut& direct = of_c ? gradients.c : gradients.b;
    if (blocks_per_group == 1) return direct.slice_columns(block * scan.states, scan.states);
    return {block_sums + (2 * block + (of_c ? 1 : 0)) * block_floats, dy.rows, scan.states};
  };
  pool.parallel_for(shares * blocks, 1, [&](std::int64_t first, std::int64_t last) {
    const std::size_t scratch_bytes = HWY_DYNAMIC_DISPATCH(selective_backward_scratch_bytes)(scan.states);
    const std::span<float> scratch = thread_scratch(scratch_bytes / sizeof(float));
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t share = i / blocks, block = i % blocks;
      const std::int64_t group = block / blocks_per_group, within = block % blocks_per_group * kBlockChannels;
      float* const to = share_sums + share * share_floats;
      const SelectiveBackwardTask task{.scan = &scan,
                                       .in = &in,
                                       .gradients = &gradients,
                                       .dy = dy,
                                       .first_channel = group * width + within,
                                       .channels = std::min(kBlockChannels, width - within),
                                       .group = group,
                                       .b = block_rows(block, false),
                                       .c = block_rows(block, true),
                                       .a = to,
                                       .d = to + scan.states * channels,
                                       .bias = to + (scan.states + 1) * channels};
      const std::int64_t begin = share * count / shares, end = (share + 1) * count / shares;
      HWY_DYNAMIC_DISPATCH(selective_backward_task)
      (task, std::span(parts).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
       scratch.data());
    }
  });
  const auto add_shares = [&](float* to, std::int64_t offset, std::int64_t size) {
    for (std::int64_t share = 0; to != nullptr && share < shares; ++share) {
      const float* from = share_sums + share * share_floats + offset;
      for (std::int64_t i = 0; i < size; ++i) to[i] += from[i];
    }
  };
  add_shares(gradients.a, 0, scan.states * channels);
  add_shares(scan.d == nullptr ? nullptr : gradients.d, scan.states * channels, channels);
  add_shares(scan.dt_bias == nullptr ? nullptr : gradients.dt_bias, (scan.states + 1) * channels, channels);
  if (blocks_per_group == 1) return;
  pool.parallel_for(count, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first * 2 * scan.groups; i < last * 2 * scan.groups; ++i) {
      const SelectiveBackwardSequence& part = parts[static_cast<std::size_t>(i / (2 * scan.groups))];
      const std::int64_t group = i / 2 % scan.groups;
      const bool of_c = i % 2 == 1;
      for (std::int64_t row = part.first_row; row < part.first_row + part.rows; ++row) {
        float* to = (of_c ? gradients.c : gradients.b).row(row) + group * scan.states;
        std::fill_n(to, scan.states, 0.0F);
        for (std::int64_t block = group * blocks_per_group; block < (group + 1) * blocks_per_group; ++block) {
          const float* from = block_rows(block, of_c).row(row);
          for (std::int64_t n = 0; n < scan.states; ++n) to[n] += from[n];
        }
      }
    }
  });
}

}  // namespace krait::kernels
#endif
