#include "krait/kernels/long_convolution_backward.h"

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/long_convolution_task.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_LONG_CONVOLUTION_BACKWARD_CPP_
#define KRAIT_KERNELS_LONG_CONVOLUTION_BACKWARD_CPP_
namespace krait::kernels {
namespace {

struct ConvolutionBackward {
  const LongConvolution* convolution;
  RowsIn x, dy;
  const LongConvolutionGradients* gradients;

  bool wants_kernel() const { return !gradients->kernel.empty() || !gradients->ahead.empty(); }
};

// Scratch for the longest transform.
struct BackwardScratch {
  float* z;
  float *kernel, *input, *taps;  // spectra
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/long_convolution_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/long_convolution-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

std::int64_t convolution_backward_lanes() { return static_cast<std::int64_t>(kLanes); }

HWY_INLINE void add_to(float* sum, VecF32 v) { hn::Store(hn::Add(hn::Load(F32(), sum), v), F32(), sum); }

// Brings the summed spectrum of the taps back and adds it, lag by lag.
HWY_INLINE void add_taps(const ConvolutionBackward& task, const FftPlan& plan, const BackwardScratch& scratch,
                         float* sums) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const LongConvolution& convolution = *task.convolution;
  for (std::int64_t pair = 0; pair < plan.pairs(); ++pair) {
    fold_pair(plan, load_pair(scratch.taps, pair), scratch.z, pair);
  }
  fft_inverse(plan, scratch.z);
  const VecF32 scale = hn::Set(F32(), 1.0F / static_cast<float>(plan.length()));
  const auto lag = [&](std::int64_t place)
                       HWY_ATTR { return hn::Mul(scale, hn::Load(F32(), scratch.z + place * lanes)); };
  for (std::int64_t j = 0; j < taps_behind(convolution, plan.length()); ++j) add_to(sums + j * lanes, lag(j));
  sums += convolution.kernel.columns * lanes;
  for (std::int64_t j = 0; j < taps_ahead(convolution, plan.length()); ++j) {
    add_to(sums + j * lanes, lag(place_ahead(plan, convolution, j)));
  }
}

// D's gradient of one sequence.
HWY_INLINE void add_skip(const ConvolutionBackward& task, const SequenceRows& sequence, ChannelBlock block,
                         float* sum) {
  VecF32 skip = hn::Zero(F32());
  for (std::int64_t t = sequence.first_row; t < sequence.first_row + sequence.rows; ++t) {
    skip = hn::MulAdd(load_channels(task.x.row(t), block), load_channels(task.dy.row(t), block), skip);
  }
  add_to(sum, skip);
}

void convolve_batch_backward(const ConvolutionBackward& task, const ConvolutionBatch& batch, std::int64_t first_channel,
                             const BackwardScratch& scratch, float* sums) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const ChannelBlock block{first_channel, static_cast<std::size_t>(std::min(lanes, task.x.columns - first_channel))};
  const LongConvolution& convolution = *task.convolution;
  const RowsOut dx = task.gradients->x;
  const FftPlan& plan = *batch.plan;
  if (!dx.empty()) transform_kernel(plan, convolution, block, scratch.z, scratch.kernel);
  for (std::int64_t i = 0; i < 2 * plan.pairs(); ++i) {
    store_complex({hn::Zero(F32()), hn::Zero(F32())}, scratch.taps + i * kPoint);
  }
  const VecF32 skip = convolution.d == nullptr ? hn::Zero(F32()) : load_channels(convolution.d, block);
  for (const SequenceRows& sequence : batch.sequences) {
    if (task.gradients->d != nullptr) {
      add_skip(task, sequence, block, sums + (convolution.kernel.columns + convolution.ahead.columns) * lanes);
    }
    if (task.wants_kernel()) {
      transform_rows(plan, task.x, sequence, block, scratch.z);
      for (std::int64_t pair = 0; pair < plan.pairs(); ++pair) {
        store_pair(unfold_pair(plan, scratch.z, pair), scratch.input, pair);
      }
    }
    transform_rows(plan, task.dy, sequence, block, scratch.z);
    for (std::int64_t pair = 0; pair < plan.pairs(); ++pair) {
      const SpectrumPair up = unfold_pair(plan, scratch.z, pair);
      if (task.wants_kernel()) {
        const SpectrumPair input = load_pair(scratch.input, pair), sum = load_pair(scratch.taps, pair);
        store_pair({sum.low + conjugate_times(input.low, up.low), sum.high + conjugate_times(input.high, up.high)},
                   scratch.taps, pair);
      }
      if (dx.empty()) continue;
      const SpectrumPair kernel = load_pair(scratch.kernel, pair);
      fold_pair(plan, {conjugate_times(kernel.low, up.low), conjugate_times(kernel.high, up.high)}, scratch.z, pair);
    }
    if (dx.empty()) continue;
    fft_inverse(plan, scratch.z);
    for (std::int64_t t = 0; t < sequence.rows; ++t) {
      VecF32 sum = hn::Load(F32(), scratch.z + t * lanes);
      if (convolution.d != nullptr) {
        sum = hn::MulAdd(skip, load_channels(task.dy.row(sequence.first_row + t), block), sum);
      }
      store_channels(sum, dx.row(sequence.first_row + t), block);
    }
  }
  if (task.wants_kernel()) add_taps(task, plan, scratch, sums);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "krait/kernels/scratch.h"

namespace krait::kernels {
namespace {

HWY_EXPORT(convolution_backward_lanes);
HWY_EXPORT(convolve_batch_backward);

// Adds the tasks' sums [groups][blocks][rows][lanes] to the gradients, one channel's group by group.
void add_sums(ThreadPool& pool, std::span<const float> sums, std::int64_t groups, std::int64_t lanes,
              const LongConvolution& convolution, const LongConvolutionGradients& gradients) {
  const std::int64_t channels = convolution.kernel.rows, blocks = (channels + lanes - 1) / lanes;
  const std::int64_t behind = convolution.kernel.columns, ahead = convolution.ahead.columns;
  const std::int64_t block_size = (behind + ahead + 1) * lanes;
  pool.parallel_for(channels, 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t channel = first; channel < last; ++channel) {
      for (std::int64_t group = 0; group < groups; ++group) {
        const float* from = sums.data() + (group * blocks + channel / lanes) * block_size + channel % lanes;
        const auto add_row = [&](float* to, std::int64_t count, const float* rows) {
          for (std::int64_t j = 0; j < count; ++j) to[j] += rows[j * lanes];
        };
        if (!gradients.kernel.empty()) add_row(gradients.kernel.row(channel), behind, from);
        if (!gradients.ahead.empty()) add_row(gradients.ahead.row(channel), ahead, from + behind * lanes);
        if (gradients.d != nullptr) add_row(gradients.d + channel, 1, from + (behind + ahead) * lanes);
      }
    }
  });
}

}  // namespace

void long_convolution_backward(ThreadPool& pool, const LongConvolution& convolution, RowsIn x, RowsIn dy,
                               std::span<const SequenceRows> sequences, const LongConvolutionGradients& gradients) {
  KRAIT_CHECK_EQ(x.rows, dy.rows);
  KRAIT_CHECK_EQ(x.columns, dy.columns);
  KRAIT_CHECK(gradients.x.empty() || (gradients.x.rows == x.rows && gradients.x.columns == x.columns),
              "dx of {} x {} for {} x {}", gradients.x.rows, gradients.x.columns, x.rows, x.columns);
  KRAIT_CHECK(gradients.kernel.empty() || gradients.kernel.columns == convolution.kernel.columns, "{} taps' gradients",
              gradients.kernel.columns);
  KRAIT_CHECK(gradients.ahead.empty() || gradients.ahead.columns == convolution.ahead.columns,
              "{} taps' gradients ahead", gradients.ahead.columns);
  const std::int64_t lanes = HWY_DYNAMIC_DISPATCH(convolution_backward_lanes)();
  const std::int64_t blocks = (x.columns + lanes - 1) / lanes;
  const ConvolutionTasks tasks(convolution, x, sequences, blocks);
  const auto groups = static_cast<std::int64_t>(tasks.groups.size());
  const std::int64_t block_size = (convolution.kernel.columns + convolution.ahead.columns + 1) * lanes;
  AlignedBuffer buffer(static_cast<std::size_t>(groups * blocks * block_size) * sizeof(float));
  const std::span<float> sums = buffer.as<float>();
  const ConvolutionBackward task{.convolution = &convolution, .x = x, .dy = dy, .gradients = &gradients};
  const std::int64_t points = 2 * lanes * tasks.longest, pairs = points + 4 * lanes;
  pool.parallel_for(blocks * groups, 1, [&](std::int64_t first, std::int64_t last) {
    float* z = thread_scratch(static_cast<std::size_t>(points + 3 * pairs)).data();
    const BackwardScratch scratch{z, z + points, z + points + pairs, z + points + 2 * pairs};
    for (std::int64_t i = first; i < last; ++i) {
      for (const ConvolutionBatch& batch : tasks.groups[static_cast<std::size_t>(i / blocks)]) {
        HWY_DYNAMIC_DISPATCH(convolve_batch_backward)
        (task, batch, i % blocks * lanes, scratch, sums.data() + i * block_size);
      }
    }
  });
  add_sums(pool, sums, groups, lanes, convolution, gradients);
}

}  // namespace krait::kernels
#endif
