// selective_scan_backward over a block of channels: chunk by chunk from the last, a group of states at a time, the
// states of the chunk are recomputed and the recurrence runs backwards over them. Within a chunk, channels are walked
// in strips whose rows stay in the first caches.
#if defined(KRAIT_KERNELS_SIMD_SELECTIVE_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SELECTIVE_BACKWARD_INL_H_
#undef KRAIT_KERNELS_SIMD_SELECTIVE_BACKWARD_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SELECTIVE_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <new>
#include <span>

#include "hwy/cache_control.h"
#include "krait/kernels/scan_selective_backward_task.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Channels are walked in strips of vectors: two with AVX-512's 32 registers, where they share the sums of dB and dC,
// else one. What lies past the block's channels is zero, and so are its gradients.
inline constexpr std::size_t kStripVectors = kLanes >= 16 ? 2 : 1;
inline constexpr auto kVector = static_cast<std::int64_t>(kLanes);
inline constexpr auto kStrip = static_cast<std::int64_t>(kStripVectors) * kVector;
inline constexpr std::int64_t kStrips = kBlockChannels / kStrip;

// A strip of one row. What is added up over the states comes last; A stands divided by ln 2 in to_step.
struct StripRow {
  float dt[kStrip], dt_x[kStrip], dy[kStrip];          // dy' from here on
  float slope[kStrip], gate[kStrip];                   // of the softplus; dy silu'(z)
  float y[kStrip], to_input[kStrip], to_step[kStrip];  // y; sum_n g B; sum_n g a h A
};
// A strip of one state.
struct StripState {
  float rate[kStrip], carried[kStrip], a[kStrip];  // A / ln 2, g, dA
};
// A group of states in one row of the strip at hand: h before the row, the decays, and the sums of dB and dC over all
// strips, not yet across lanes.
struct GroupRow {
  float h[kStateGroup][kStrip], decay[kStateGroup][kStrip];
};
struct GroupSums {
  float b[kStateGroup][kVector], c[kStateGroup][kVector];
};

struct alignas(64) SelectiveBackwardScratch {
  StripRow rows[kStrips][kSelectiveChunk];
  GroupRow group[kSelectiveChunk + 1];
  GroupSums sums[kSelectiveChunk];
  float d[kBlockChannels], bias[kBlockChannels];
};

// Rows [N, E] of a state or of A, times `scale`, from or to one of a StripState's members; states [strips][N].
using StripMember = float (StripState::*)[kStrip];

void load_states(const SelectiveBackwardTask& task, const float* from, float scale, StripMember member,
                 StripState* states) {
  const F32 d;
  for (std::int64_t n = 0; n < task.scan->states; ++n) {
    const float* row = from == nullptr ? nullptr : from + n * task.scan->channels + task.first_channel;
    for (std::int64_t at = 0; at < kBlockChannels; at += kVector) {
      const std::int64_t left = task.channels - at;
      VecF32 v = hn::Zero(d);
      if (row != nullptr && left >= kVector) v = hn::LoadU(d, row + at);
      if (row != nullptr && left > 0 && left < kVector) v = load_part(row + at, static_cast<std::size_t>(left));
      float* to = (states[at / kStrip * task.scan->states + n].*member) + at % kStrip;
      hn::Store(hn::Mul(v, hn::Set(d, scale)), d, to);
    }
  }
}

void store_states(const SelectiveBackwardTask& task, const StripState* states, StripMember member, float* to) {
  for (std::int64_t n = 0; n < task.scan->states; ++n) {
    for_vectors(task.channels, [&](auto whole, std::int64_t at, std::size_t count) HWY_ATTR {
      const float* v = (states[at / kStrip * task.scan->states + n].*member) + at % kStrip;
      store<decltype(whole)::value>(hn::Load(F32(), v), to + n * task.scan->channels + task.first_channel + at, count);
    });
  }
}

// softplus(x) and its derivative 1 / (1 + e^-x), from one exponential of -|x|.
HWY_INLINE VecF32 softplus_and_slope(VecF32 x, VecF32& slope) {
  const F32 d;
  const VecF32 one = hn::Set(d, 1.0F), u = exp_f32(hn::Neg(hn::Abs(x)));
  slope = hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), u, one), hn::Add(one, u));
  const VecF32 small = hn::Add(hn::Max(hn::Zero(d), x), log1p_unit_f32(u));
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, 20.0F)), x, small);
}

// What the recurrence of a chunk's rows begins with, and all that z and the raw dt are needed for.
HWY_NOINLINE void prepare_rows(const SelectiveBackwardTask& task, std::int64_t first_row, std::int64_t rows,
                               SelectiveBackwardScratch& s) {
  const F32 d;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = first_row + r;
    for_vectors(task.channels, [&](auto whole, std::int64_t at, std::size_t count) HWY_ATTR {
      constexpr bool kWhole = decltype(whole)::value;
      const std::int64_t e = task.first_channel + at, lane = at % kStrip;
      StripRow& to = s.rows[at / kStrip][r];
      VecF32 dt = load<kWhole>(task.in->dt.row(row) + e, count), slope = hn::Set(d, 1.0F);
      if (task.scan->dt_bias != nullptr) dt = hn::Add(dt, load<kWhole>(task.scan->dt_bias + e, count));
      if (task.scan->dt_softplus) dt = softplus_and_slope(dt, slope);
      VecF32 dy = load<kWhole>(task.dy.row(row) + e, count);
      if (!task.in->z.empty()) {
        const VecF32 z = load<kWhole>(task.in->z.row(row) + e, count), sigmoid = sigmoid_f32(z);
        const VecF32 silu = hn::Mul(z, sigmoid);
        hn::Store(hn::Mul(dy, hn::MulAdd(silu, hn::Sub(hn::Set(d, 1.0F), sigmoid), sigmoid)), d, to.gate + lane);
        dy = hn::Mul(dy, silu);
      }
      hn::Store(dt, d, to.dt + lane);
      hn::Store(slope, d, to.slope + lane);
      hn::Store(hn::Mul(dt, load<kWhole>(task.in->x.row(row) + e, count)), d, to.dt_x + lane);
      hn::Store(dy, d, to.dy + lane);
    });
  }
}

// B and C of a group's first state in the chunk's first row, and their strides.
struct GroupInputs {
  const float *b, *c;
  std::int64_t b_stride, c_stride;
};

// Rows of two matrices to fetch into the cache meanwhile: 128 bytes of each, too short for the prefetchers.
struct FetchedRows {
  const float *left, *right;
  std::int64_t left_stride, right_stride;

  HWY_INLINE void fetch(std::int64_t row) const {
    for (std::int64_t i = 0; i < kStrip; i += 16) {
      hwy::Prefetch(left + row * left_stride + i);
      hwy::Prefetch(right + row * right_stride + i);
    }
  }
};

// The states of the chunk once more, from group[0].h, and dC with them. The first group writes what the others add to.
template <std::size_t kCount, bool kFirst>
HWY_NOINLINE void recompute_states(const GroupInputs& in, const FetchedRows& fetched, std::int64_t count,
                                   const StripState* HWY_RESTRICT states, StripRow* HWY_RESTRICT rows,
                                   GroupRow* HWY_RESTRICT group, GroupSums* HWY_RESTRICT sums) {
  const F32 d;
  VecF32 h[kCount * kStripVectors], rate[kCount * kStripVectors];
  for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
    h[i] = hn::Load(d, group->h[i / kStripVectors] + i % kStripVectors * kLanes);
    rate[i] = hn::Load(d, states[i / kStripVectors].rate + i % kStripVectors * kLanes);
  }
  const float *b = in.b, *c = in.c;
  for (std::int64_t r = 0; r < count; ++r, ++rows, b += in.b_stride, c += in.c_stride) {
    fetched.fetch(r);
    VecF32 decay[kCount * kStripVectors], dt_x[kStripVectors], dy[kStripVectors], y[kStripVectors];
    for (std::size_t v = 0; v < kStripVectors; ++v) {
      dt_x[v] = hn::Load(d, rows->dt_x + v * kLanes);
      dy[v] = hn::Load(d, rows->dy + v * kLanes);
      y[v] = kFirst ? hn::Zero(d) : hn::Load(d, rows->y + v * kLanes);
    }
    for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
      decay[i] = hn::Mul(hn::Load(d, rows->dt + i % kStripVectors * kLanes), rate[i]);
    }
    exp2_f32(decay);
    for (std::size_t n = 0; n < kCount; ++n) {
      const VecF32 b_n = hn::Set(d, b[n]), c_n = hn::Set(d, c[n]);
      VecF32 to_c = hn::Load(d, sums[r].c[n]);
      for (std::size_t v = 0; v < kStripVectors; ++v) {
        const std::size_t i = n * kStripVectors + v;
        hn::Store(decay[i], d, group->decay[n] + v * kLanes);
        h[i] = hn::MulAdd(decay[i], h[i], hn::Mul(dt_x[v], b_n));
        y[v] = hn::MulAdd(h[i], c_n, y[v]);
        to_c = hn::MulAdd(dy[v], h[i], to_c);
      }
      hn::Store(to_c, d, sums[r].c[n]);
    }
    ++group;
    for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
      hn::Store(h[i], d, group->h[i / kStripVectors] + i % kStripVectors * kLanes);
    }
    for (std::size_t v = 0; v < kStripVectors; ++v) hn::Store(y[v], d, rows->y + v * kLanes);
  }
}

// The recurrence backwards over these states.
template <std::size_t kCount, bool kFirst>
HWY_NOINLINE void recur_backwards(const GroupInputs& in, const FetchedRows& fetched, std::int64_t count,
                                  StripState* HWY_RESTRICT states, StripRow* HWY_RESTRICT rows,
                                  const GroupRow* HWY_RESTRICT group, GroupSums* HWY_RESTRICT sums) {
  const F32 d;
  VecF32 g[kCount * kStripVectors], to_a[kCount * kStripVectors];
  for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
    g[i] = hn::Load(d, states[i / kStripVectors].carried + i % kStripVectors * kLanes);
    to_a[i] = hn::Zero(d);
  }
  const float *b = in.b + count * in.b_stride, *c = in.c + count * in.c_stride;
  for (std::int64_t r = count - 1; r >= 0; --r) {
    b -= in.b_stride;
    c -= in.c_stride;
    fetched.fetch(r);
    StripRow& row = rows[r];
    VecF32 dt[kStripVectors], dt_x[kStripVectors], dy[kStripVectors], to_input[kStripVectors], to_step[kStripVectors];
    for (std::size_t v = 0; v < kStripVectors; ++v) {
      dt[v] = hn::Load(d, row.dt + v * kLanes);
      dt_x[v] = hn::Load(d, row.dt_x + v * kLanes);
      dy[v] = hn::Load(d, row.dy + v * kLanes);
      to_input[v] = kFirst ? hn::Zero(d) : hn::Load(d, row.to_input + v * kLanes);
      to_step[v] = kFirst ? hn::Zero(d) : hn::Load(d, row.to_step + v * kLanes);
    }
    for (std::size_t n = 0; n < kCount; ++n) {
      const VecF32 b_n = hn::Set(d, b[n]), c_n = hn::Set(d, c[n]);
      VecF32 to_b = hn::Load(d, sums[r].b[n]);
      for (std::size_t v = 0; v < kStripVectors; ++v) {
        const std::size_t i = n * kStripVectors + v;
        g[i] = hn::MulAdd(c_n, dy[v], g[i]);
        to_b = hn::MulAdd(g[i], dt_x[v], to_b);
        to_input[v] = hn::MulAdd(g[i], b_n, to_input[v]);
        g[i] = hn::Mul(g[i], hn::Load(d, group[r].decay[n] + v * kLanes));
        const VecF32 to_exponent = hn::Mul(g[i], hn::Load(d, group[r].h[n] + v * kLanes));
        to_a[i] = hn::MulAdd(to_exponent, dt[v], to_a[i]);
        to_step[v] = hn::MulAdd(to_exponent, hn::Load(d, states[n].rate + v * kLanes), to_step[v]);
      }
      hn::Store(to_b, d, sums[r].b[n]);
    }
    for (std::size_t v = 0; v < kStripVectors; ++v) {
      hn::Store(to_input[v], d, row.to_input + v * kLanes);
      hn::Store(to_step[v], d, row.to_step + v * kLanes);
    }
  }
  for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
    StripState& state = states[i / kStripVectors];
    const std::size_t lane = i % kStripVectors * kLanes;
    hn::Store(g[i], d, state.carried + lane);
    hn::Store(hn::Add(hn::Load(d, state.a + lane), to_a[i]), d, state.a + lane);
  }
}

template <class D>
HWY_INLINE auto fold_to_four(D, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    return v;
  } else {
    return fold_to_four(hn::Half<D>(), hn::Add(hn::LowerHalf(v), hn::UpperHalf(hn::Half<D>(), v)));
  }
}

// The sums of all lanes of four vectors, to four floats; the order is another than that of sum_lanes().
HWY_INLINE void store_sums_of_lanes(VecF32 v0, VecF32 v1, VecF32 v2, VecF32 v3, float* to) {
  const hn::FixedTag<float, 4> d;
  const auto w0 = fold_to_four(F32(), v0), w1 = fold_to_four(F32(), v1);
  const auto w2 = fold_to_four(F32(), v2), w3 = fold_to_four(F32(), v3);
  const auto left = hn::Add(hn::InterleaveLower(d, w0, w1), hn::InterleaveUpper(d, w0, w1));
  const auto right = hn::Add(hn::InterleaveLower(d, w2, w3), hn::InterleaveUpper(d, w2, w3));
  hn::StoreU(hn::Add(hn::ConcatLowerLower(d, right, left), hn::ConcatUpperUpper(d, right, left)), d, to);
}

// States n … n + kCount of all strips through the rows of a chunk, and their dB and dC.
template <std::size_t kCount, bool kFirst>
HWY_NOINLINE void walk_states(const SelectiveBackwardTask& task, const float* border, std::int64_t first_row,
                              std::int64_t rows, std::int64_t n, StripState* states, SelectiveBackwardScratch& s) {
  const F32 d;
  const std::int64_t count = task.scan->states, column = task.group * count + n;
  const GroupInputs in{.b = task.in->b.row(first_row) + column,
                       .c = task.in->c.row(first_row) + column,
                       .b_stride = task.in->b.stride,
                       .c_stride = task.in->c.stride};
  std::memset(s.sums, 0, static_cast<std::size_t>(rows) * sizeof(GroupSums));
  for (std::int64_t strip = 0; strip * kStrip < task.channels; ++strip) {
    for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
      const std::int64_t channel = strip * kStrip + static_cast<std::int64_t>(i % kStripVectors) * kVector;
      const std::int64_t left = task.channels - channel, state = n + static_cast<std::int64_t>(i / kStripVectors);
      const float* from = border + state * task.scan->channels + task.first_channel + channel;
      VecF32 h = hn::Zero(d);
      if (left >= kVector) h = hn::LoadU(d, from);
      if (left > 0 && left < kVector) h = load_part(from, static_cast<std::size_t>(left));
      hn::Store(h, d, s.group->h[i / kStripVectors] + i % kStripVectors * kLanes);
    }
    StripState* const of_strip = states + strip * count + n;
    const std::int64_t e = task.first_channel + strip * kStrip;
    // Of what prepare_rows() reads next, two matrices each while the first group goes forwards and backwards; of what
    // finish_rows() writes, while the second does.
    const auto fetched = [&](const auto& left, const auto& right, std::int64_t row) -> FetchedRows {
      if (row < 0 || left.empty() || right.empty()) return {s.d, s.d, 0, 0};
      return {left.row(row) + e, right.row(row) + e, left.stride, right.stride};
    };
    const std::int64_t before = first_row - kSelectiveChunk;
    const SelectiveScanGradients& to = *task.gradients;
    FetchedRows first{s.d, s.d, 0, 0}, second = first;
    if (n == 0) first = fetched(task.in->x, task.in->dt, before), second = fetched(task.in->z, task.dy, before);
    if (n == kStateGroup) first = fetched(to.x, to.dt, first_row), second = fetched(to.z, to.z, first_row);
    recompute_states<kCount, kFirst>(in, first, rows, of_strip, s.rows[strip], s.group, s.sums);
    recur_backwards<kCount, kFirst>(in, second, rows, of_strip, s.rows[strip], s.group, s.sums);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto sum = [&](const float(&lanes)[kStateGroup][kVector], float* to) HWY_ATTR {
      if constexpr (kCount == 4) {
        store_sums_of_lanes(hn::Load(d, lanes[0]), hn::Load(d, lanes[1]), hn::Load(d, lanes[2]), hn::Load(d, lanes[3]),
                            to);
      } else {
        for (std::size_t i = 0; i < kCount; ++i) to[i] = sum_lanes(hn::Load(d, lanes[i]));
      }
    };
    sum(s.sums[r].b, task.b.row(first_row + r) + n);
    sum(s.sums[r].c, task.c.row(first_row + r) + n);
  }
}

template <std::size_t kCount>
void walk_group(const SelectiveBackwardTask& task, const float* border, std::int64_t first_row, std::int64_t rows,
                std::int64_t n, StripState* states, SelectiveBackwardScratch& s) {
  if (n == 0) {
    walk_states<kCount, true>(task, border, first_row, rows, n, states, s);
  } else {
    walk_states<kCount, false>(task, border, first_row, rows, n, states, s);
  }
}

// The gradients of a chunk's rows, from the sums over the states.
HWY_NOINLINE void finish_rows(const SelectiveBackwardTask& task, std::int64_t first_row, std::int64_t rows,
                              SelectiveBackwardScratch& s) {
  const F32 d;
  const SelectiveScan& scan = *task.scan;
  const SelectiveScanGradients& to = *task.gradients;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = first_row + r;
    for_vectors(task.channels, [&](auto whole, std::int64_t at, std::size_t count) HWY_ATTR {
      constexpr bool kWhole = decltype(whole)::value;
      const std::int64_t e = task.first_channel + at, lane = at % kStrip;
      const StripRow& from = s.rows[at / kStrip][r];
      const VecF32 x = load<kWhole>(task.in->x.row(row) + e, count);
      const VecF32 dy = hn::Load(d, from.dy + lane), to_input = hn::Load(d, from.to_input + lane);
      VecF32 to_x = hn::Mul(hn::Load(d, from.dt + lane), to_input), y = hn::Load(d, from.y + lane);
      if (scan.d != nullptr) {
        const VecF32 skip = load<kWhole>(scan.d + e, count);
        to_x = hn::MulAdd(skip, dy, to_x);
        y = hn::MulAdd(skip, x, y);
        hn::Store(hn::MulAdd(dy, x, hn::Load(d, s.d + at)), d, s.d + at);
      }
      const VecF32 ln2 = hn::Set(d, 0.693147180559945309F);
      VecF32 to_step = hn::MulAdd(ln2, hn::Load(d, from.to_step + lane), hn::Mul(x, to_input));
      to_step = hn::Mul(to_step, hn::Load(d, from.slope + lane));
      hn::Store(hn::Add(hn::Load(d, s.bias + at), to_step), d, s.bias + at);
      if (!task.in->z.empty()) {
        store<kWhole>(hn::Mul(y, hn::Load(d, from.gate + lane)), to.z.row(row) + e, count);
      }
      store<kWhole>(to_x, to.x.row(row) + e, count);
      store<kWhole>(to_step, to.dt.row(row) + e, count);
    });
  }
}

inline std::size_t selective_backward_scratch_bytes(std::int64_t states) {
  return sizeof(SelectiveBackwardScratch) + static_cast<std::size_t>(kStrips * states) * sizeof(StripState);
}

void selective_backward_task(const SelectiveBackwardTask& task, std::span<const SelectiveBackwardSequence> sequences,
                             float* scratch) {
  auto& s = *new (scratch) SelectiveBackwardScratch;
  auto* const states = reinterpret_cast<StripState*>(&s + 1);  // [strips][N]
  // Lanes past the channels are never written, and have to be numbers.
  std::memset(s.rows, 0, sizeof(s.rows));
  std::memset(s.d, 0, sizeof(s.d));
  std::memset(s.bias, 0, sizeof(s.bias));
  load_states(task, task.scan->a, 1.44269504088896341F, &StripState::rate, states);
  load_states(task, nullptr, 0.0F, &StripState::a, states);
  const std::int64_t count = task.scan->states;
  for (const SelectiveBackwardSequence& sequence : sequences) {
    load_states(task, sequence.state.final_state, 1.0F, &StripState::carried, states);
    const std::int64_t chunks = (sequence.rows + kSelectiveChunk - 1) / kSelectiveChunk;
    for (std::int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
      const std::int64_t done = chunk * kSelectiveChunk, first_row = sequence.first_row + done;
      const std::int64_t rows = std::min(kSelectiveChunk, sequence.rows - done);
      const float* border = sequence.borders + chunk * count * task.scan->channels;
      prepare_rows(task, first_row, rows, s);
      std::int64_t n = 0;
      for (; n + kStateGroup <= count; n += kStateGroup) {
        walk_group<kStateGroup>(task, border, first_row, rows, n, states, s);
      }
      for (; n < count; ++n) walk_group<1>(task, border, first_row, rows, n, states, s);
      finish_rows(task, first_row, rows, s);
    }
    if (sequence.state.initial_state != nullptr) {
      store_states(task, states, &StripState::carried, sequence.state.initial_state);
    }
  }
  store_states(task, states, &StripState::a, task.a);
  std::copy_n(s.d, task.channels, task.d + task.first_channel);
  std::copy_n(s.bias, task.channels, task.bias + task.first_channel);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
