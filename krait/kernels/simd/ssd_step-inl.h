// One row of ssd_scan as the plain recurrence: the state is read and written once, and y gathers C S on the way.
#if defined(KRAIT_KERNELS_SIMD_SSD_STEP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SSD_STEP_INL_H_
#undef KRAIT_KERNELS_SIMD_SSD_STEP_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SSD_STEP_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/scan_ssd_task.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

struct SsdStepHead {
  float dt, decay;
  const float* b;  // [N]
  const float* c;
  const float* x;  // [P]
  const float* d;  // null, or one value, or [P]
  bool d_per_channel;
  float* y;
  std::byte* state;  // [N, P]
  std::byte* scales;
  std::int64_t states, width;
};

// Columns p … of one head: kCount vectors, or with kWhole false the first `count` of them.
template <class State, std::size_t kCount, bool kWhole>
HWY_INLINE void ssd_step_columns(const SsdStepHead& head, std::int64_t p, std::size_t count) {
  const F32 d;
  VecF32 x[kCount], dt_x[kCount], sum[kCount];
  if constexpr (kWhole) {
    StateF32::load(reinterpret_cast<const std::byte*>(head.x + p), nullptr, x);
  } else {
    load_state_part<StateF32>(reinterpret_cast<const std::byte*>(head.x + p), nullptr, count, x);
  }
  for (std::size_t j = 0; j < kCount; ++j) {
    dt_x[j] = hn::Mul(hn::Set(d, head.dt), x[j]);
    sum[j] = hn::Zero(d);
  }
  StateNoise<kCount> noise;
  noise.start(dt_x);
  const VecF32 decay = hn::Set(d, head.decay);
  const std::int64_t row_bytes = head.width * static_cast<std::int64_t>(State::kBytes);
  const std::int64_t row_scales = State::kScaled ? 4 * state_blocks(head.width) : 0;
  std::byte* state = head.state + p * static_cast<std::int64_t>(State::kBytes);
  std::byte* scale = State::kScaled ? head.scales + 4 * (p / kStateBlock) : nullptr;
  for (std::int64_t n = 0; n < head.states; ++n) {
    const VecF32 bn = hn::Set(d, head.b[n]), cn = hn::Set(d, head.c[n]);
    VecF32 s[kCount];
    if constexpr (kWhole) {
      State::load(state, scale, s);
    } else {
      load_state_part<State>(state, scale, count, s);
    }
    for (std::size_t j = 0; j < kCount; ++j) {
      s[j] = hn::MulAdd(bn, dt_x[j], hn::Mul(decay, s[j]));
      sum[j] = hn::MulAdd(cn, s[j], sum[j]);
    }
    if constexpr (kWhole) {
      State::store(s, state, scale, noise);
    } else {
      store_state_part<State>(s, state, scale, count, noise);
    }
    state += row_bytes;
    if constexpr (State::kScaled) scale += row_scales;
  }
  for (std::size_t j = 0; j < kCount && head.d != nullptr; ++j) {
    const std::size_t at = j * kLanes;
    VecF32 skip = hn::Set(d, head.d[0]);
    if (head.d_per_channel) {
      if (at >= count) break;
      skip = count - at >= kLanes ? hn::LoadU(d, head.d + p + at) : load_part(head.d + p + at, count - at);
    }
    sum[j] = hn::MulAdd(skip, x[j], sum[j]);
  }
  if constexpr (kWhole) {
    StateF32::store(sum, reinterpret_cast<std::byte*>(head.y + p), nullptr, noise);
  } else {
    store_state_part<StateF32>(sum, reinterpret_cast<std::byte*>(head.y + p), nullptr, count, noise);
  }
}

template <class State>
HWY_INLINE void ssd_step_head(const SsdStepHead& head) {
  constexpr std::size_t kCount = State::kStepVectors;
  constexpr auto kWidth = static_cast<std::int64_t>(kCount * kLanes);
  std::int64_t p = 0;
  for (; p + kWidth <= head.width; p += kWidth) ssd_step_columns<State, kCount, true>(head, p, kCount * kLanes);
  if constexpr (!State::kScaled) {
    constexpr auto lanes = static_cast<std::int64_t>(kLanes);
    for (; p + lanes <= head.width; p += lanes) ssd_step_columns<State, 1, true>(head, p, kLanes);
    if (p < head.width) ssd_step_columns<State, 1, false>(head, p, static_cast<std::size_t>(head.width - p));
  } else {
    if (p < head.width) ssd_step_columns<State, kCount, false>(head, p, static_cast<std::size_t>(head.width - p));
  }
}

// dt = clamp(softplus(raw + bias)) and decay = exp(dt a) of up to one vector of heads.
HWY_INLINE void ssd_step_sizes(const SsdScan& scan, const float* raw, std::int64_t head, std::size_t count, float* dt,
                               float* decay) {
  const F32 d;
  const bool whole = count == kLanes;
  VecF32 v = whole ? hn::LoadU(d, raw + head) : load_part(raw + head, count);
  if (scan.dt_bias != nullptr) {
    v = hn::Add(v, whole ? hn::LoadU(d, scan.dt_bias + head) : load_part(scan.dt_bias + head, count));
  }
  v = at_most(hn::Set(d, scan.dt_high), at_least(hn::Set(d, scan.dt_low), softplus_f32(v)));
  hn::Store(v, d, dt);
  const VecF32 a = whole ? hn::LoadU(d, scan.a + head) : load_part(scan.a + head, count);
  hn::Store(exp_f32(hn::Mul(v, a)), d, decay);
}

void ssd_step(const SsdTask& task) {
  const SsdScan& scan = *task.scan;
  const std::int64_t row = task.first_row;
  HWY_ALIGN float dt[kLanes];
  HWY_ALIGN float decay[kLanes];
  const std::int64_t end = task.first_head + task.heads;
  for (std::int64_t first = task.first_head; first < end; first += static_cast<std::int64_t>(kLanes)) {
    const std::int64_t count = std::min(static_cast<std::int64_t>(kLanes), end - first);
    ssd_step_sizes(scan, task.dt.row(row), first, static_cast<std::size_t>(count), dt, decay);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t h = first + i;
      const std::int64_t from = task.group(h) * scan.states;
      const SsdStepHead head{.dt = dt[i],
                             .decay = decay[i],
                             .b = task.b.row(row) + from,
                             .c = task.c.row(row) + from,
                             .x = task.x.row(row) + h * scan.head_width,
                             .d = task.head_d(h),
                             .d_per_channel = scan.d_per_channel,
                             .y = task.y.row(row) + h * scan.head_width,
                             .state = task.head_state(h),
                             .scales = task.head_scales(h),
                             .states = scan.states,
                             .width = scan.head_width};
      with_state_type(scan.state_dtype, [&](auto type) { ssd_step_head<decltype(type)>(head); });
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
