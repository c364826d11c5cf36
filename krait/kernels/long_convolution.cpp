#include "krait/kernels/long_convolution.h"

#include "krait/core/check.h"
#include "krait/kernels/long_convolution_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/long_convolution.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/long_convolution-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

std::int64_t convolution_lanes() { return static_cast<std::int64_t>(kLanes); }

// z, spectrum: scratch for the longest transform.
void convolve_batch(const LongConvolution& convolution, RowsIn x, RowsOut y, const ConvolutionBatch& batch,
                    std::int64_t first_channel, float* z, float* spectrum) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const ChannelBlock block{first_channel, static_cast<std::size_t>(std::min(lanes, x.columns - first_channel))};
  const FftPlan& plan = *batch.plan;
  transform_kernel(plan, convolution, block, z, spectrum);
  const VecF32 skip = convolution.d == nullptr ? hn::Zero(F32()) : load_channels(convolution.d, block);
  for (const SequenceRows& sequence : batch.sequences) {
    transform_rows(plan, x, sequence, block, z);
    for (std::int64_t pair = 0; pair < plan.pairs(); ++pair) {
      const SpectrumPair value = unfold_pair(plan, z, pair), kernel = load_pair(spectrum, pair);
      fold_pair(plan, {value.low * kernel.low, value.high * kernel.high}, z, pair);
    }
    fft_inverse(plan, z);
    for (std::int64_t t = 0; t < sequence.rows; ++t) {
      VecF32 sum = hn::Load(F32(), z + t * lanes);
      if (convolution.d != nullptr) {
        sum = hn::MulAdd(skip, load_channels(x.row(sequence.first_row + t), block), sum);
      }
      store_channels(sum, y.row(sequence.first_row + t), block);
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "krait/kernels/scratch.h"

namespace krait::kernels {
namespace {

HWY_EXPORT(convolution_lanes);
HWY_EXPORT(convolve_batch);

}  // namespace

void long_convolution(ThreadPool& pool, const LongConvolution& convolution, RowsIn x,
                      std::span<const SequenceRows> sequences, RowsOut y) {
  KRAIT_CHECK_EQ(x.rows, y.rows);
  KRAIT_CHECK_EQ(x.columns, y.columns);
  const std::int64_t lanes = HWY_DYNAMIC_DISPATCH(convolution_lanes)();
  const std::int64_t blocks = (x.columns + lanes - 1) / lanes;
  const ConvolutionTasks tasks(convolution, x, sequences, blocks);
  const auto groups = static_cast<std::int64_t>(tasks.groups.size());
  // Of the longest transform: its points, and pairs of them.
  const std::int64_t points = 2 * lanes * tasks.longest, pairs = points + 4 * lanes;
  pool.parallel_for(blocks * groups, 1, [&](std::int64_t first, std::int64_t last) {
    float* z = thread_scratch(static_cast<std::size_t>(points + pairs)).data();
    for (std::int64_t i = first; i < last; ++i) {
      for (const ConvolutionBatch& batch : tasks.groups[static_cast<std::size_t>(i / blocks)]) {
        HWY_DYNAMIC_DISPATCH(convolve_batch)(convolution, x, y, batch, i % blocks * lanes, z, z + points);
      }
    }
  });
}

}  // namespace krait::kernels
#endif
