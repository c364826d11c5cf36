// Rows and kernels of one vector of channels on their way into a transform and out of it. In a transform's buffer real
// value t stands at t * lanes: point j is values 2j and 2j + 1.
#if defined(KRAIT_KERNELS_SIMD_LONG_CONVOLUTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_LONG_CONVOLUTION_INL_H_
#undef KRAIT_KERNELS_SIMD_LONG_CONVOLUTION_INL_H_
#else
#define KRAIT_KERNELS_SIMD_LONG_CONVOLUTION_INL_H_
#endif

#include "krait/kernels/long_convolution_task.h"
#include "krait/kernels/simd/fft-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

struct ChannelBlock {
  std::int64_t first = 0;
  std::size_t count = 0;  // at most the lanes
};

HWY_INLINE VecF32 load_channels(const float* row, ChannelBlock block) {
  return block.count == kLanes ? hn::LoadU(F32(), row + block.first) : load_part(row + block.first, block.count);
}
HWY_INLINE void store_channels(VecF32 v, float* row, ChannelBlock block) {
  if (block.count == kLanes) {
    hn::StoreU(v, F32(), row + block.first);
  } else {
    store_part(v, row + block.first, block.count);
  }
}

// The rows of a sequence and zeros up to the transform's length, transformed.
HWY_INLINE void transform_rows(const FftPlan& plan, RowsIn x, const SequenceRows& sequence, ChannelBlock block,
                               float* z) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  for (std::int64_t t = 0; t < sequence.rows; ++t) {
    hn::Store(load_channels(x.row(sequence.first_row + t), block), F32(), z + t * lanes);
  }
  for (std::int64_t t = sequence.rows; t < plan.length(); ++t) hn::Store(hn::Zero(F32()), F32(), z + t * lanes);
  fft_forward(plan, z);
}

// The value of lag -(first_ahead + j), which the circle has at its end.
HWY_INLINE std::int64_t place_ahead(const FftPlan& plan, const LongConvolution& convolution, std::int64_t j) {
  return (plan.length() - convolution.first_ahead - j) % plan.length();
}

// The spectrum of the kernel, both ways, divided by the length: a product with it, folded and transformed back, is the
// convolution. z is scratch.
HWY_INLINE void transform_kernel(const FftPlan& plan, const LongConvolution& convolution, ChannelBlock block, float* z,
                                 float* spectrum) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const float scale = 1.0F / static_cast<float>(plan.length());
  for (std::int64_t t = 0; t < plan.length(); ++t) hn::Store(hn::Zero(F32()), F32(), z + t * lanes);
  const std::int64_t behind = taps_behind(convolution, plan.length());
  const std::int64_t ahead = taps_ahead(convolution, plan.length());
  for (std::size_t i = 0; i < block.count; ++i) {
    const std::int64_t channel = block.first + static_cast<std::int64_t>(i);
    const float* taps = convolution.kernel.row(channel);
    for (std::int64_t j = 0; j < behind; ++j) z[static_cast<std::size_t>(j * lanes) + i] = scale * taps[j];
    if (convolution.ahead.empty()) continue;
    const float* taps_ahead = convolution.ahead.row(channel);
    for (std::int64_t j = 0; j < ahead; ++j) {
      z[static_cast<std::size_t>(place_ahead(plan, convolution, j) * lanes) + i] += scale * taps_ahead[j];
    }
  }
  fft_forward(plan, z);
  for (std::int64_t pair = 0; pair < plan.pairs(); ++pair) store_pair(unfold_pair(plan, z, pair), spectrum, pair);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
