#include "krait/kernels/conv1d_causal_backward.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/partial_sums.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

//
#include "hwy/cache_control.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_CONV1D_CAUSAL_BACKWARD_CPP_
#define KRAIT_KERNELS_CONV1D_CAUSAL_BACKWARD_CPP_
namespace krait::kernels {
namespace {

constexpr std::int64_t kMostWidth = Conv1dCausal::kMostWidth;
// Steps of one block, whole rounds of K: sums are loaded and stored once for them. More rows beside one another are
// more streams of memory than it has use for (kernels_bench, Conv1dBackward).
constexpr std::int64_t kMostBlockSteps = 16;
constexpr std::int64_t block_steps(std::int64_t width) { return std::max<std::int64_t>(1, 4 / width) * width; }
static_assert(block_steps(kMostWidth) == kMostBlockSteps);

// Step t of a sequence computes ds[t], the last that the gradient of row t - (K-1) needs.
struct Step {
  const float* dy;    // null past the sequence's last row: ds is zero
  const float* last;  // what is added to the finished row: the gradient of the window that is left; or null
  float* dx;          // the finished row, or null where another task writes it or nobody wants it
  bool counts;        // whether ds[t] is this task's share of the gradients of weight and bias
};

// Several steps over some channels; every pointer stands at the first of them.
struct StepBlock {
  const float* taps[kMostBlockSteps + kMostWidth - 1] =
      {};  // row t - (K-1) + i of (window, x), null for a row of zeros
  Step steps[kMostBlockSteps] = {};
  std::int64_t count = 0;
  std::int64_t channels;
  // From a row to the one that stands in its place in the next block: so many rows beside one another are more streams
  // than the hardware's prefetcher follows.
  std::int64_t ahead_x, ahead_dy, ahead_dx;
  std::int64_t width;
  const float* weight;  // [K, C]
  std::int64_t weight_stride;
  const float* bias;
  bool silu;
  // Sums that wait for the next block, a row of `channels` each: gradients of the weight's taps, of the bias, then
  // the last K-1 ds, the oldest first. Only a task's last block may have fewer steps than block_steps(width), and then
  // those are of no more use.
  float* sums;
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/conv1d_causal_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Derivative of silu: sigma(s) (1 + s (1 - sigma(s))).
HWY_INLINE VecF32 silu_slope(VecF32 s) {
  const VecF32 one = hn::Set(F32(), 1.0F), sigma = sigmoid_f32(s);
  return hn::Mul(sigma, hn::MulAdd(s, hn::Sub(one, sigma), one));
}

// One vector of channels, from c on. kWidth is K, or 0 for any. K steps are a round: their slopes are written side by
// side, so that the chains of dependent operations hide each other's latency, then what follows from them. With K known
// every loop is unrolled, and all that passes from round to round lives in registers.
template <std::int64_t kWidth, bool kWhole>
struct Lane {
  static constexpr std::int64_t kMost = kWidth == 0 ? kMostWidth : kWidth;
  const StepBlock& block;
  const std::int64_t c;
  const std::size_t part;
  // Step i of a round has tap k in x[i + k] and the ds of k steps ago in ds[K-1 + i - k].
  VecF32 w[kMost], dw[kMost], x[2 * kMost - 1], ds[2 * kMost - 1], db, bias;

  HWY_INLINE Lane(const StepBlock& of, std::int64_t channel, std::size_t count) : block(of), c(channel), part(count) {
    const std::int64_t width = this->width(), kept = width - 1;
    for (std::int64_t k = 0; k < width; ++k) {
      w[k] = load<kWhole>(block.weight + k * block.weight_stride + c, part);
      dw[k] = load<kWhole>(sum_row(k), part);
    }
    db = load<kWhole>(sum_row(width), part);
    for (std::int64_t k = 0; k < kept; ++k) {
      x[k] = tap(k);
      ds[k] = load<kWhole>(sum_row(width + 1 + k), part);
    }
    bias = block.bias == nullptr ? hn::Zero(F32()) : load<kWhole>(block.bias + c, part);
  }
  HWY_INLINE std::int64_t width() const { return kWidth == 0 ? block.width : kWidth; }
  HWY_INLINE float* sum_row(std::int64_t row) const { return block.sums + row * block.channels + c; }
  HWY_INLINE VecF32 tap(std::int64_t i) const {
    return block.taps[i] == nullptr ? hn::Zero(F32()) : load<kWhole>(block.taps[i] + c, part);
  }

  // ds of step t, the round's i-th.
  HWY_INLINE void slope(std::int64_t t, std::int64_t i) {
    const std::int64_t width = this->width(), kept = width - 1;
    const Step& step = block.steps[t];
    x[i + kept] = ds[i + kept] = hn::Zero(F32());
    if (step.dy == nullptr) return;
    x[i + kept] = tap(t + kept);
    hwy::Prefetch(step.dy + c + block.ahead_dy);
    hwy::Prefetch(block.taps[t + kept] + c + block.ahead_x);
    VecF32 now = load<kWhole>(step.dy + c, part);
    if (block.silu) {
      VecF32 s = bias;
      for (std::int64_t k = 0; k < width; ++k) s = hn::MulAdd(w[k], x[i + k], s);
      now = hn::Mul(now, silu_slope(s));
    }
    ds[i + kept] = now;
  }

  HWY_INLINE void add(std::int64_t t, std::int64_t i) {
    const std::int64_t width = this->width(), kept = width - 1;
    const Step& step = block.steps[t];
    if (step.counts) {
      for (std::int64_t k = 0; k < width; ++k) dw[k] = hn::MulAdd(ds[i + kept], x[i + k], dw[k]);
      db = hn::Add(db, ds[i + kept]);
    }
    if (step.dx == nullptr) return;
    VecF32 dx = step.last == nullptr ? hn::Zero(F32()) : load<kWhole>(step.last + c, part);
    for (std::int64_t k = kept; k >= 0; --k) dx = hn::MulAdd(w[k], ds[i + kept - k], dx);
    hwy::Prefetch(step.dx + c + block.ahead_dx);
    store<kWhole>(dx, step.dx + c, part);
  }

  // K steps from t on, as far as there are any.
  HWY_INLINE void round(std::int64_t t) {
    const std::int64_t width = this->width(), steps = std::min(width, block.count - t);
    if constexpr (kWidth > 0) {
      const auto each = [this, t, steps]<std::int64_t... i>(std::integer_sequence<std::int64_t, i...>) {
        (..., (i < steps ? slope(t + i, i) : void()));
        (..., (i < steps ? add(t + i, i) : void()));
      };
      each(std::make_integer_sequence<std::int64_t, kWidth>());
    } else {
      for (std::int64_t i = 0; i < steps; ++i) slope(t + i, i);
      for (std::int64_t i = 0; i < steps; ++i) add(t + i, i);
    }
    for (std::int64_t k = 0; k + 1 < width; ++k) {
      x[k] = x[k + width];
      ds[k] = ds[k + width];
    }
  }

  HWY_INLINE void run() {
    const std::int64_t width = this->width();
    for (std::int64_t t = 0; t < block.count; t += width) round(t);
    for (std::int64_t k = 0; k < width; ++k) store<kWhole>(dw[k], sum_row(k), part);
    store<kWhole>(db, sum_row(width), part);
    for (std::int64_t k = 0; k + 1 < width; ++k) store<kWhole>(ds[k], sum_row(width + 1 + k), part);
  }
};

template <std::int64_t kWidth>
HWY_INLINE void steps_of_width(const StepBlock& block) {
  for_vectors(block.channels, [&](auto whole, std::int64_t c, std::size_t part) {
    Lane<kWidth, decltype(whole)::value>(block, c, part).run();
  });
}

void convolve_steps_back(const StepBlock& block) {
  switch (block.width) {
    case 2: return steps_of_width<2>(block);
    case 3: return steps_of_width<3>(block);
    case 4: return steps_of_width<4>(block);
    default: return steps_of_width<0>(block);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(convolve_steps_back);

// A task: some rows of one sequence, some channels. The few steps past its rows that their gradients need are computed
// by the next task too; the sums of weight and bias go to a place of its own and are added up in order afterwards.
constexpr std::int64_t kTaskRows = 256;
constexpr std::int64_t kTaskChannels = 1024;

struct Chunk {
  std::size_t sequence;
  std::int64_t begin;  // rows of the sequence
  std::int64_t end;
};

struct Problem {
  const Conv1dCausal& conv;
  RowsIn x, dy;
  std::span<const SequenceRows> sequences;
  std::span<const SequenceGradients> windows;
  RowsOut dx;
};

void run_task(const Problem& problem, const Chunk& chunk, std::int64_t channel, std::int64_t channels, float* sums) {
  const SequenceRows& sequence = problem.sequences[chunk.sequence];
  const SequenceGradients window = problem.windows.empty() ? SequenceGradients{} : problem.windows[chunk.sequence];
  const std::int64_t all = problem.x.columns, kept = problem.conv.width - 1;
  const auto input = [&](std::int64_t row) -> const float* {
    if (row >= 0) return problem.x.row(sequence.first_row + row) + channel;
    return sequence.state == nullptr ? nullptr : sequence.state_f32() + (kept + row) * all + channel;
  };
  const std::int64_t most = block_steps(problem.conv.width);
  StepBlock block{.channels = channels,
                  .ahead_x = most * problem.x.stride,
                  .ahead_dy = most * problem.dy.stride,
                  .ahead_dx = most * problem.dx.stride,
                  .width = problem.conv.width,
                  .weight = problem.conv.weight + channel,
                  .weight_stride = all,
                  .bias = problem.conv.bias == nullptr ? nullptr : problem.conv.bias + channel,
                  .silu = problem.conv.silu,
                  .sums = sums};
  const std::int64_t last_step = chunk.end + kept;
  for (std::int64_t first = chunk.begin; first < last_step; first += most) {
    block.count = std::min(most, last_step - first);
    for (std::int64_t i = 0; i < block.count + kept; ++i) {
      const std::int64_t row = first - kept + i;
      block.taps[i] = row < sequence.rows ? input(row) : nullptr;
    }
    for (std::int64_t i = 0; i < block.count; ++i) {
      const std::int64_t t = first + i, finished = t - kept, left = finished - (sequence.rows - kept);
      Step& step = block.steps[i];
      step = {.dy = t < sequence.rows ? problem.dy.row(sequence.first_row + t) + channel : nullptr,
              .last = left >= 0 && window.final_state != nullptr ? window.final_state + left * all + channel : nullptr,
              .dx = nullptr,
              .counts = t < chunk.end};
      if (finished >= chunk.begin) {
        step.dx = problem.dx.row(sequence.first_row + finished) + channel;
      } else if (finished < 0 && window.initial_state != nullptr) {
        step.dx = window.initial_state + (kept + finished) * all + channel;
      }
    }
    HWY_DYNAMIC_DISPATCH(convolve_steps_back)(block);
  }
}

}  // namespace

void conv1d_causal_backward(ThreadPool& pool, const Conv1dCausal& conv, RowsIn x, RowsIn dy,
                            std::span<const SequenceRows> sequences, std::span<const SequenceGradients> windows,
                            const Conv1dCausalGradients& gradients) {
  KRAIT_CHECK(conv.width >= 1 && conv.width <= kMostWidth, "width {}", conv.width);
  KRAIT_CHECK(x.rows == dy.rows && x.columns == dy.columns, "x {} x {}, dy {} x {}", x.rows, x.columns, dy.rows,
              dy.columns);
  KRAIT_CHECK(x.rows == gradients.x.rows && x.columns == gradients.x.columns, "x {} x {}, its gradient {} x {}", x.rows,
              x.columns, gradients.x.rows, gradients.x.columns);
  KRAIT_CHECK(windows.empty() || windows.size() == sequences.size(), "{} windows of {} sequences", windows.size(),
              sequences.size());
  std::vector<Chunk> chunks;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRows& sequence = sequences[i];
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= x.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, x.rows);
    // A sequence without rows hands the gradient of its window on.
    std::int64_t begin = 0;
    do {
      chunks.push_back({i, begin, std::min(begin + kTaskRows, sequence.rows)});
      begin += kTaskRows;
    } while (begin < sequence.rows);
  }
  const std::int64_t channels = x.columns, width = conv.width;
  if (channels == 0) return;
  const auto chunk_count = static_cast<std::int64_t>(chunks.size());
  const std::int64_t across = (channels + kTaskChannels - 1) / kTaskChannels;
  PartialSums partial(chunk_count, (width + 1) * channels);
  const Problem problem{conv, x, dy, sequences, windows, gradients.x};
  pool.parallel_for(chunk_count * across, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t chunk = i / across, channel = i % across * kTaskChannels;
      const std::int64_t count = std::min(kTaskChannels, channels - channel);
      const std::span<float> sums = thread_scratch(static_cast<std::size_t>(2 * width * count));
      std::fill_n(sums.begin(), 2 * width * count, 0.0F);
      run_task(problem, chunks[static_cast<std::size_t>(chunk)], channel, count, sums.data());
      for (std::int64_t k = 0; k <= width; ++k) {
        std::copy_n(sums.data() + k * count, count, partial.part(chunk) + k * channels + channel);
      }
    }
  });
  partial.add_to(pool, 0, width * channels, gradients.weight);
  partial.add_to(pool, width * channels, channels, gradients.bias);
}

}  // namespace krait::kernels
#endif
