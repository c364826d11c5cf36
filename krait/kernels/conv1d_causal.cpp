#include "krait/kernels/conv1d_causal.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_CONV1D_CAUSAL_CPP_
#define KRAIT_KERNELS_CONV1D_CAUSAL_CPP_
namespace krait::kernels {
namespace {

constexpr std::int64_t kMaxWidth = Conv1dCausal::kMostWidth;
// Rows of one block: the weights of a vector of channels are loaded once for them, and the rows stay in L1/L2
// while the block walks over the channels.
constexpr std::int64_t kBlockRows = 8;

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/conv1d_causal.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

HWY_INLINE VecF32 activate(VecF32 v, bool silu) { return silu ? silu_f32(v) : v; }

// Width 4 over `rows` outputs of one vector of channels; taps[r] is input row r - 3.
template <bool kWhole>
HWY_INLINE void four_taps_at(const float* const* taps, std::int64_t rows, const float* weight, std::int64_t channels,
                             const float* bias, bool silu, float* y, std::int64_t y_stride, std::int64_t c,
                             std::size_t count) {
  const VecF32 w0 = load<kWhole>(weight + c, count);
  const VecF32 w1 = load<kWhole>(weight + channels + c, count);
  const VecF32 w2 = load<kWhole>(weight + 2 * channels + c, count);
  const VecF32 w3 = load<kWhole>(weight + 3 * channels + c, count);
  const VecF32 start = bias == nullptr ? hn::Zero(F32()) : load<kWhole>(bias + c, count);
  VecF32 x0 = load<kWhole>(taps[0] + c, count);
  VecF32 x1 = load<kWhole>(taps[1] + c, count);
  VecF32 x2 = load<kWhole>(taps[2] + c, count);
  for (std::int64_t r = 0; r < rows; ++r) {
    const VecF32 x3 = load<kWhole>(taps[r + 3] + c, count);
    VecF32 sum = hn::MulAdd(w0, x0, start);
    sum = hn::MulAdd(w1, x1, sum);
    sum = hn::MulAdd(w2, x2, sum);
    sum = hn::MulAdd(w3, x3, sum);
    store<kWhole>(activate(sum, silu), y + r * y_stride + c, count);
    x0 = x1;
    x1 = x2;
    x2 = x3;
  }
}

// Any width, the same order of additions.
template <bool kWhole>
HWY_INLINE void any_taps_at(const float* const* taps, std::int64_t rows, const float* weight, std::int64_t channels,
                            std::int64_t width, const float* bias, bool silu, float* y, std::int64_t y_stride,
                            std::int64_t c, std::size_t count) {
  const VecF32 start = bias == nullptr ? hn::Zero(F32()) : load<kWhole>(bias + c, count);
  for (std::int64_t r = 0; r < rows; ++r) {
    VecF32 sum = start;
    for (std::int64_t k = 0; k < width; ++k) {
      sum = hn::MulAdd(load<kWhole>(weight + k * channels + c, count), load<kWhole>(taps[r + k] + c, count), sum);
    }
    store<kWhole>(activate(sum, silu), y + r * y_stride + c, count);
  }
}

void convolve_block(const float* const* taps, std::int64_t rows, const float* weight, std::int64_t channels,
                    std::int64_t width, const float* bias, bool silu, float* y, std::int64_t y_stride) {
  const auto lanes = static_cast<std::int64_t>(kLanes);
  std::int64_t c = 0;
  if (width == 4) {
    for (; c + lanes <= channels; c += lanes) {
      four_taps_at<true>(taps, rows, weight, channels, bias, silu, y, y_stride, c, kLanes);
    }
    if (c < channels) {
      four_taps_at<false>(taps, rows, weight, channels, bias, silu, y, y_stride, c,
                          static_cast<std::size_t>(channels - c));
    }
    return;
  }
  for (; c + lanes <= channels; c += lanes) {
    any_taps_at<true>(taps, rows, weight, channels, width, bias, silu, y, y_stride, c, kLanes);
  }
  if (c < channels) {
    any_taps_at<false>(taps, rows, weight, channels, width, bias, silu, y, y_stride, c,
                       static_cast<std::size_t>(channels - c));
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(convolve_block);

struct Block {
  const SequenceRows* sequence;
  std::int64_t begin;  // rows of the sequence
  std::int64_t end;
};

// The window becomes the last K-1 rows of (window, x). Rows move towards the front, so oldest first is safe.
void advance_window(const SequenceRows& sequence, RowsIn x, std::int64_t kept) {
  const std::int64_t channels = x.columns;
  for (std::int64_t i = 0; i < kept; ++i) {
    const std::int64_t from = sequence.rows + i;  // index into window rows followed by x rows
    const float* source =
        from < kept ? sequence.state_f32() + from * channels : x.row(sequence.first_row + from - kept);
    std::copy_n(source, channels, sequence.state_f32() + i * channels);
  }
}

}  // namespace

void conv1d_causal(ThreadPool& pool, const Conv1dCausal& conv, RowsIn x, std::span<const SequenceRows> sequences,
                   RowsOut y) {
  KRAIT_CHECK(conv.width >= 1 && conv.width <= kMaxWidth, "width {}", conv.width);
  KRAIT_CHECK_EQ(x.rows, y.rows);
  KRAIT_CHECK_EQ(x.columns, y.columns);
  const std::int64_t kept = conv.width - 1;
  std::vector<Block> blocks;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= x.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, x.rows);
    for (std::int64_t begin = 0; begin < sequence.rows; begin += kBlockRows) {
      blocks.push_back({&sequence, begin, std::min(begin + kBlockRows, sequence.rows)});
    }
  }
  const auto block_count = static_cast<std::int64_t>(blocks.size());
  // A block of few channels is too little work for a task of its own.
  const std::int64_t grain = std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, x.columns));
  pool.parallel_for(block_count, grain, [&](std::int64_t first, std::int64_t last) {
    const float* taps[kBlockRows + kMaxWidth - 1];
    for (std::int64_t i = first; i < last; ++i) {
      const Block& block = blocks[static_cast<std::size_t>(i)];
      const SequenceRows& sequence = *block.sequence;
      for (std::int64_t r = block.begin - kept; r < block.end; ++r) {
        taps[r - (block.begin - kept)] =
            r < 0 ? sequence.state_f32() + (kept + r) * x.columns : x.row(sequence.first_row + r);
      }
      HWY_DYNAMIC_DISPATCH(convolve_block)
      (taps, block.end - block.begin, conv.weight, x.columns, conv.width, conv.bias, conv.silu,
       y.row(sequence.first_row + block.begin), y.stride);
    }
  });
  if (kept == 0) return;
  pool.parallel_for(static_cast<std::int64_t>(sequences.size()), 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) advance_window(sequences[static_cast<std::size_t>(i)], x, kept);
  });
}

}  // namespace krait::kernels
#endif
