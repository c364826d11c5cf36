// One row of trapezoidal_scan as the plain recurrence: S is read and written once, whatever the rank, and the outputs
// gather S^T q_r on the way.
#if defined(KRAIT_KERNELS_SIMD_TRAPEZOIDAL_STEP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_STEP_INL_H_
#undef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_STEP_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRAPEZOIDAL_STEP_INL_H_
#endif

#include <algorithm>
#include <type_traits>
#include <utility>

#include "hwy/cache_control.h"
#include "krait/kernels/simd/state-inl.h"
#include "krait/kernels/simd/trapezoidal_rotation-inl.h"
#include "krait/kernels/simd/trapezoidal_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

inline constexpr std::int64_t kRowsAhead = 16;

struct TrapezoidalStepHead {
  float decay;
  // Both already times what they are weighed with; rows of N or of P padded to whole vectors.
  const float *key, *last_key, *query;  // [R, N]
  const float *value, *last_value;      // [R, P]: gamma v, beta v_prev
  float* y;                             // [R, P]
  std::int64_t stride;                  // of the rows of P
  std::byte *state, *scales;
  std::int64_t states, width;
};

// Rows first … last and columns p … of S for all R: kCount vectors, or with kWhole false the first `count` values of
// them.
template <class State, std::int64_t kRank, std::size_t kCount, bool kWhole>
HWY_INLINE void trapezoidal_step_columns(const TrapezoidalStepHead& head, std::int64_t first, std::int64_t end,
                                         std::int64_t p, std::size_t count) {
  const F32 d;
  VecF32 value[kRank][kCount], last_value[kRank][kCount], sum[kRank][kCount];
  for (std::int64_t r = 0; r < kRank; ++r) {
    for (std::size_t j = 0; j < kCount; ++j) {
      value[r][j] = hn::LoadU(d, head.value + r * head.stride + p + j * kLanes);
      last_value[r][j] = hn::LoadU(d, head.last_value + r * head.stride + p + j * kLanes);
      sum[r][j] = first == 0 ? hn::Zero(d) : hn::LoadU(d, head.y + r * head.stride + p + j * kLanes);
    }
  }
  StateNoise<kCount> noise;
  noise.start(value[0]);
  const VecF32 decay = hn::Set(d, head.decay);
  const std::int64_t row_bytes = head.width * static_cast<std::int64_t>(State::kBytes);
  const std::int64_t row_scales = State::kScaled ? 4 * state_blocks(head.width) : 0;
  std::byte* state = head.state + first * row_bytes + p * static_cast<std::int64_t>(State::kBytes);
  std::byte* scale = State::kScaled ? head.scales + first * row_scales + 4 * (p / kStateBlock) : nullptr;
  for (std::int64_t n = first; n < end; ++n) {
    // The same columns some rows on, that memory is asked for as evenly as the arithmetic goes.
    for (std::size_t byte = 0; byte < kCount * kLanes * State::kBytes; byte += 64) {
      hwy::Prefetch(state + kRowsAhead * row_bytes + byte);
    }
    VecF32 s[kCount];
    if constexpr (kWhole) {
      State::load(state, scale, s);
    } else {
      load_state_part<State>(state, scale, count, s);
    }
    // What comes in is summed apart from S, the last row's and this one's: short chains that need not wait for memory.
    VecF32 last[kCount], now[kCount];
    for (std::int64_t r = 0; r < kRank; ++r) {
      const VecF32 last_key = hn::Set(d, head.last_key[r * head.states + n]);
      const VecF32 key = hn::Set(d, head.key[r * head.states + n]);
      for (std::size_t j = 0; j < kCount; ++j) {
        last[j] = r == 0 ? hn::Mul(last_key, last_value[r][j]) : hn::MulAdd(last_key, last_value[r][j], last[j]);
        now[j] = r == 0 ? hn::Mul(key, value[r][j]) : hn::MulAdd(key, value[r][j], now[j]);
      }
    }
    for (std::size_t j = 0; j < kCount; ++j) s[j] = hn::Add(hn::MulAdd(decay, s[j], last[j]), now[j]);
    for (std::int64_t r = 0; r < kRank; ++r) {
      const VecF32 query = hn::Set(d, head.query[r * head.states + n]);
      for (std::size_t j = 0; j < kCount; ++j) sum[r][j] = hn::MulAdd(query, s[j], sum[r][j]);
    }
    if constexpr (kWhole) {
      State::store(s, state, scale, noise);
    } else {
      store_state_part<State>(s, state, scale, count, noise);
    }
    state += row_bytes;
    if constexpr (State::kScaled) scale += row_scales;
  }
  for (std::int64_t r = 0; r < kRank; ++r) {
    for (std::size_t j = 0; j < kCount; ++j) hn::StoreU(sum[r][j], d, head.y + r * head.stride + p + j * kLanes);
  }
}

template <class State, std::int64_t kRank>
HWY_INLINE void trapezoidal_step_head(const TrapezoidalStepHead& head) {
  // Of each column vector 3 R vectors stay in registers.
  constexpr std::size_t kCount =
      State::kScaled ? State::kStepVectors : (kRank == 1 ? 4 : (kLanes >= 16 && kRank <= 4 ? 2 : 1));
  constexpr auto kWidth = static_cast<std::int64_t>(kCount * kLanes);
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  // With several passes over the columns, some rows at a time: while one part is worked on, the next one is on its way.
  const std::int64_t rows = kRank == 1 ? head.states : kRowsAhead;
  for (std::int64_t first = 0; first < head.states; first += rows) {
    const std::int64_t end = std::min(head.states, first + rows);
    std::int64_t p = 0;
    for (; p + kWidth <= head.width; p += kWidth) {
      trapezoidal_step_columns<State, kRank, kCount, true>(head, first, end, p, kCount * kLanes);
    }
    const auto rest = [&] { return static_cast<std::size_t>(head.width - p); };
    if constexpr (State::kScaled) {
      if (p < head.width) trapezoidal_step_columns<State, kRank, kCount, false>(head, first, end, p, rest());
    } else {
      for (; p + lanes <= head.width; p += lanes) {
        trapezoidal_step_columns<State, kRank, 1, true>(head, first, end, p, kLanes);
      }
      if (p < head.width) trapezoidal_step_columns<State, kRank, 1, false>(head, first, end, p, rest());
    }
  }
}

// Of the ranks that have a step of their own.
template <class State>
HWY_INLINE void trapezoidal_step_rank(std::int64_t rank, const TrapezoidalStepHead& head) {
  switch (rank) {
    case 1: return trapezoidal_step_head<State, 1>(head);
    case 2: return trapezoidal_step_head<State, 2>(head);
    default: return trapezoidal_step_head<State, 4>(head);
  }
}

// Scratch: 2 R N + 2 angles + 3 R P floats, P padded to a whole block of the state.
void trapezoidal_step(const TrapezoidalTask& task, float* scratch) {
  const F32 d;
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalColumns columns(scan);
  const std::int64_t rank = scan.rank, states = scan.states, width = scan.head_width;
  const std::int64_t stride = state_blocks(width) * kStateBlock;
  const auto take = [&](std::int64_t count) { return std::exchange(scratch, scratch + trapezoidal_padded(count)); };
  float* const key = take(rank * states);
  float* const query = take(rank * states);
  const TrapezoidalRotation rotation{.cosines = take(scan.angles), .sines = take(scan.angles)};
  float* const value = take(rank * stride);
  float* const last_value = take(rank * stride);
  float* const y = take(rank * stride);
  std::fill(value, value + 2 * rank * stride, 0.0F);
  const float* row = task.prepared.row(task.first_row);
  for (std::int64_t head = task.first_head; head < task.first_head + task.heads; ++head) {
    trapezoidal_turn(scan, row + columns.turn, row[columns.dt + head], task.head_angles(head), rotation);
    for (std::int64_t r = 0; r < rank; ++r) {
      const std::int64_t shared = (r * scan.groups + task.group(head)) * states, own = (head * rank + r) * states;
      trapezoidal_rotate(scan, row + columns.b + shared, scan.b_bias + own, rotation, key + r * states);
      trapezoidal_rotate(scan, row + columns.c + shared, scan.c_bias + own, rotation, query + r * states);
    }
    VecF32 power[1] = {hn::Set(d, row[columns.log_decay + head])};
    exp2_f32(power);
    const float decay = hn::GetLane(power[0]);
    const VecF32 gamma = hn::Set(d, row[columns.gamma + head]);
    const VecF32 beta = hn::Set(d, row[columns.shift + head] * decay);
    const float* x = task.in->x.row(task.first_row) + head * width;
    float* const last = task.head_value(head);
    const float* mix = task.mix(scan.value_mix, head);
    for (std::int64_t r = 0; r < rank; ++r) {
      for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
        constexpr bool kWhole = decltype(whole)::value;
        VecF32 v = hn::Mul(gamma, load<kWhole>(x + p, part)), w = hn::Mul(beta, load<kWhole>(last + p, part));
        if (mix != nullptr) {
          const VecF32 factor = load<kWhole>(mix + r * width + p, part);
          v = hn::Mul(v, factor);
          w = hn::Mul(w, factor);
        }
        store<kWhole>(v, value + r * stride + p, part);
        store<kWhole>(w, last_value + r * stride + p, part);
      });
    }
    const TrapezoidalStepHead step{.decay = decay,
                                   .key = key,
                                   .last_key = task.head_key(head),
                                   .query = query,
                                   .value = value,
                                   .last_value = last_value,
                                   .y = y,
                                   .stride = stride,
                                   .state = task.head_state(head),
                                   .scales = task.head_scales(head),
                                   .states = states,
                                   .width = width};
    with_state_type(scan.state_dtype, [&](auto type) { trapezoidal_step_rank<decltype(type)>(rank, step); });
    std::copy_n(key, rank * states, task.head_key(head));
    std::copy_n(x, width, last);
    trapezoidal_outputs(task, head, task.first_row, y, stride);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
