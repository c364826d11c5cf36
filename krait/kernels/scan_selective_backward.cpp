#include "krait/kernels/scan_selective_backward.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_SCAN_SELECTIVE_BACKWARD_CPP_
#define KRAIT_KERNELS_SCAN_SELECTIVE_BACKWARD_CPP_
namespace krait::kernels {
namespace {

// A task is a block of channels of one group: wide enough that summing dB and dC across its lanes costs little beside
// the recurrence, narrow enough that 1536 channels of two sequences make a dozen tasks.
constexpr std::int64_t kBlockChannels = 256;
// States go so many at a time through a whole chunk of rows, forwards and backwards.
constexpr std::int64_t kStateGroup = 4;

struct SelectiveBackwardTask {
  const SelectiveScan* scan;
  const SelectiveScanInputs* in;
  const SelectiveScanGradients* gradients;
  RowsIn dy;
  std::int64_t first_channel, channels, group;
  RowsOut b, c;         // [M, N]: dB and dC summed over the block
  float *a, *d, *bias;  // [N, E], [E], [E]: where this task's sums over its sequences belong
};

struct SelectiveBackwardSequence {
  std::int64_t first_row, rows;
  const float* borders;  // [chunks, N, E]
  SequenceGradients state;
};

std::int64_t scratch_floats(std::int64_t states) {
  constexpr std::int64_t kQ = kSelectiveChunk;
  // A, g and dA; six values of each row and channel; dD and d bias; h and decays of a strip (of 32 channels at most)
  // and the sums of dB and dC in 16 lanes, for a group of states.
  return kBlockChannels * (3 * states + 6 * kQ + 2) + kStateGroup * ((2 * kQ + 1) * 32 + 2 * kQ * 16);
}

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_selective_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Channels are walked in strips of vectors: two with AVX-512's 32 registers, where they share the sums of dB and dC,
// else one. Scratch past the block's channels holds zeros, to which all gradients are zero.
inline constexpr std::size_t kStripVectors = kLanes >= 16 ? 2 : 1;
inline constexpr auto kVector = static_cast<std::int64_t>(kLanes);
inline constexpr auto kStrip = static_cast<std::int64_t>(kStripVectors) * kVector;

struct SelectiveBackwardScratch {
  float *rates, *carried, *a;                      // [strips][N][strip]: A / ln 2, g, dA
  float *dt, *dt_x, *dy, *y, *to_input, *to_step;  // [strips][rows][strip]; the last: sum g B, sum g a h A / ln 2
  float *d, *bias;                                 // [channels]
  float *h, *decay;                                // [rows + 1][states][strip], [rows][states][strip] of one group
  float *b, *c;                                    // [rows][states][lanes] of one group

  explicit SelectiveBackwardScratch(float* from, std::int64_t states) {
    const auto take = [&](std::int64_t count) { return std::exchange(from, from + count); };
    for (float** piece : {&rates, &carried, &a}) *piece = take(states * kBlockChannels);
    for (float** piece : {&dt, &dt_x, &dy, &y, &to_input, &to_step}) *piece = take(kSelectiveChunk * kBlockChannels);
    for (float** piece : {&d, &bias}) *piece = take(kBlockChannels);
    h = take((kSelectiveChunk + 1) * kStateGroup * 32);
    decay = take(kSelectiveChunk * kStateGroup * 32);
    for (float** piece : {&b, &c}) *piece = take(kSelectiveChunk * kStateGroup * 16);
  }

  // Of channel `at`, a multiple of the lanes.
  static std::int64_t state_at(std::int64_t n, std::int64_t at, std::int64_t states) {
    return (at / kStrip * states + n) * kStrip + at % kStrip;
  }
  static std::int64_t row_at(std::int64_t row, std::int64_t at) {
    return (at / kStrip * kSelectiveChunk + row) * kStrip + at % kStrip;
  }
};

// Rows [N, E] of a state or of A, from or to the scratch.
void load_states(const SelectiveBackwardTask& task, const float* from, float scale, float* to) {
  const F32 d;
  for (std::int64_t n = 0; n < task.scan->states; ++n) {
    const float* row = from == nullptr ? nullptr : from + n * task.scan->channels + task.first_channel;
    for (std::int64_t at = 0; at < kBlockChannels; at += kVector) {
      const std::int64_t left = task.channels - at;
      VecF32 v = hn::Zero(d);
      if (row != nullptr && left >= kVector) v = hn::LoadU(d, row + at);
      if (row != nullptr && left > 0 && left < kVector) v = load_part(row + at, static_cast<std::size_t>(left));
      hn::Store(hn::Mul(v, hn::Set(d, scale)), d, to + SelectiveBackwardScratch::state_at(n, at, task.scan->states));
    }
  }
}

void store_states(const SelectiveBackwardTask& task, const float* from, float* to) {
  for (std::int64_t n = 0; n < task.scan->states; ++n) {
    for_vectors(task.channels, [&](auto whole, std::int64_t at, std::size_t count) HWY_ATTR {
      const float* v = from + SelectiveBackwardScratch::state_at(n, at, task.scan->states);
      store<decltype(whole)::value>(hn::Load(F32(), v), to + n * task.scan->channels + task.first_channel + at, count);
    });
  }
}

template <bool kWhole>
HWY_INLINE VecF32 raw_step(const SelectiveBackwardTask& task, std::int64_t row, std::int64_t e, std::size_t count) {
  const VecF32 raw = load<kWhole>(task.in->dt.row(row) + e, count);
  if (task.scan->dt_bias == nullptr) return raw;
  return hn::Add(raw, load<kWhole>(task.scan->dt_bias + e, count));
}

// dt, dt x and dy' of a chunk's rows.
void prepare_rows(const SelectiveBackwardTask& task, std::int64_t first_row, std::int64_t rows,
                  const SelectiveBackwardScratch& s) {
  const F32 d;
  for (std::int64_t r = 0; r < rows; ++r) {
    for_vectors(task.channels, [&](auto whole, std::int64_t at, std::size_t count) HWY_ATTR {
      constexpr bool kWhole = decltype(whole)::value;
      const std::int64_t e = task.first_channel + at, to = SelectiveBackwardScratch::row_at(r, at);
      VecF32 dt = raw_step<kWhole>(task, first_row + r, e, count);
      if (task.scan->dt_softplus) dt = softplus_f32(dt);
      if (!kWhole) dt = hn::IfThenElseZero(hn::FirstN(d, count), dt);
      VecF32 dy = load<kWhole>(task.dy.row(first_row + r) + e, count);
      if (!task.in->z.empty()) dy = hn::Mul(dy, silu_f32(load<kWhole>(task.in->z.row(first_row + r) + e, count)));
      hn::Store(dt, d, s.dt + to);
      hn::Store(hn::Mul(dt, load<kWhole>(task.in->x.row(first_row + r) + e, count)), d, s.dt_x + to);
      hn::Store(dy, d, s.dy + to);
    });
  }
}

// What one strip of channels and a group of states work on.
struct SelectiveStrip {
  std::int64_t rows;
  const float *b, *c;  // B and C of the group's first state in the chunk's first row
  std::int64_t b_stride, c_stride;
  float *rates, *carried, *a;                      // [states][strip]
  float *dt, *dt_x, *dy, *y, *to_input, *to_step;  // [rows][strip]
};

// The states of the chunk once more, from s.h[0]. The first group writes what the others add to.
template <std::size_t kCount, bool kFirst>
HWY_NOINLINE void recompute_states(const SelectiveStrip& strip, const SelectiveBackwardScratch& s) {
  const F32 d;
  constexpr auto kStride = static_cast<std::int64_t>(kCount) * kStrip;
  VecF32 h[kCount * kStripVectors];
  for (std::size_t i = 0; i < kCount * kStripVectors; ++i) h[i] = hn::Load(d, s.h + i * kLanes);
  for (std::int64_t r = 0; r < strip.rows; ++r) {
    const float* b = strip.b + r * strip.b_stride;
    const float* c = strip.c + r * strip.c_stride;
    VecF32 decay[kCount * kStripVectors], dt[kStripVectors], dt_x[kStripVectors], y[kStripVectors];
    for (std::size_t v = 0; v < kStripVectors; ++v) {
      const std::int64_t at = r * kStrip + static_cast<std::int64_t>(v * kLanes);
      dt[v] = hn::Load(d, strip.dt + at);
      dt_x[v] = hn::Load(d, strip.dt_x + at);
      y[v] = kFirst ? hn::Zero(d) : hn::Load(d, strip.y + at);
    }
    for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
      decay[i] = hn::Mul(dt[i % kStripVectors], hn::Load(d, strip.rates + i * kLanes));
    }
    exp2_f32(decay);
    float* next = s.h + (r + 1) * kStride;
    for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
      const std::size_t v = i % kStripVectors, n = i / kStripVectors;
      h[i] = hn::MulAdd(decay[i], h[i], hn::Mul(dt_x[v], hn::Set(d, b[n])));
      y[v] = hn::MulAdd(h[i], hn::Set(d, c[n]), y[v]);
      hn::Store(decay[i], d, s.decay + r * kStride + static_cast<std::int64_t>(i * kLanes));
      hn::Store(h[i], d, next + i * kLanes);
    }
    for (std::size_t v = 0; v < kStripVectors; ++v) {
      hn::Store(y[v], d, strip.y + r * kStrip + static_cast<std::int64_t>(v * kLanes));
    }
  }
}

// The recurrence backwards over the states that stand in s.h.
template <std::size_t kCount, bool kFirst>
HWY_NOINLINE void recur_backwards(const SelectiveStrip& strip, const SelectiveBackwardScratch& s) {
  const F32 d;
  constexpr auto kStride = static_cast<std::int64_t>(kCount) * kStrip;
  VecF32 g[kCount * kStripVectors], to_a[kCount * kStripVectors];
  for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
    g[i] = hn::Load(d, strip.carried + i * kLanes);
    to_a[i] = hn::Zero(d);
  }
  for (std::int64_t r = strip.rows - 1; r >= 0; --r) {
    const float* b = strip.b + r * strip.b_stride;
    const float* c = strip.c + r * strip.c_stride;
    VecF32 dt[kStripVectors], dt_x[kStripVectors], dy[kStripVectors], to_input[kStripVectors], to_step[kStripVectors];
    for (std::size_t v = 0; v < kStripVectors; ++v) {
      const std::int64_t at = r * kStrip + static_cast<std::int64_t>(v * kLanes);
      dt[v] = hn::Load(d, strip.dt + at);
      dt_x[v] = hn::Load(d, strip.dt_x + at);
      dy[v] = hn::Load(d, strip.dy + at);
      to_input[v] = kFirst ? hn::Zero(d) : hn::Load(d, strip.to_input + at);
      to_step[v] = kFirst ? hn::Zero(d) : hn::Load(d, strip.to_step + at);
    }
    const float* h = s.h + r * kStride;
    const float* decay = s.decay + r * kStride;
    for (std::size_t n = 0; n < kCount; ++n) {
      const VecF32 b_n = hn::Set(d, b[n]), c_n = hn::Set(d, c[n]);
      const std::int64_t sum = (r * static_cast<std::int64_t>(kCount) + static_cast<std::int64_t>(n)) * kVector;
      VecF32 to_b = hn::Load(d, s.b + sum), to_c = hn::Load(d, s.c + sum);
      for (std::size_t v = 0; v < kStripVectors; ++v) {
        const std::size_t i = n * kStripVectors + v;
        g[i] = hn::MulAdd(c_n, dy[v], g[i]);
        to_c = hn::MulAdd(dy[v], hn::Load(d, h + kStride + i * kLanes), to_c);
        to_b = hn::MulAdd(g[i], dt_x[v], to_b);
        to_input[v] = hn::MulAdd(g[i], b_n, to_input[v]);
        g[i] = hn::Mul(g[i], hn::Load(d, decay + i * kLanes));
        const VecF32 to_exponent = hn::Mul(g[i], hn::Load(d, h + i * kLanes));
        to_a[i] = hn::MulAdd(to_exponent, dt[v], to_a[i]);
        to_step[v] = hn::MulAdd(to_exponent, hn::Load(d, strip.rates + i * kLanes), to_step[v]);
      }
      hn::Store(to_b, d, s.b + sum);
      hn::Store(to_c, d, s.c + sum);
    }
    for (std::size_t v = 0; v < kStripVectors; ++v) {
      const std::int64_t at = r * kStrip + static_cast<std::int64_t>(v * kLanes);
      hn::Store(to_input[v], d, strip.to_input + at);
      hn::Store(to_step[v], d, strip.to_step + at);
    }
  }
  for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
    hn::Store(g[i], d, strip.carried + i * kLanes);
    hn::Store(hn::Add(hn::Load(d, strip.a + i * kLanes), to_a[i]), d, strip.a + i * kLanes);
  }
}

// States n … n + kCount of all strips through the rows of a chunk, and their dB and dC.
template <std::size_t kCount, bool kFirst>
HWY_NOINLINE void walk_states(const SelectiveBackwardTask& task, const float* border, std::int64_t first_row,
                              std::int64_t rows, std::int64_t n, const SelectiveBackwardScratch& s) {
  const F32 d;
  const std::int64_t states = task.scan->states, column = task.group * states + n;
  constexpr auto kStates = static_cast<std::int64_t>(kCount);
  std::fill_n(s.b, rows * kStates * kVector, 0.0F);
  std::fill_n(s.c, rows * kStates * kVector, 0.0F);
  for (std::int64_t at = 0; at < task.channels; at += kStrip) {
    const std::int64_t state = SelectiveBackwardScratch::state_at(n, at, states);
    const std::int64_t row = SelectiveBackwardScratch::row_at(0, at);
    for (std::size_t i = 0; i < kCount * kStripVectors; ++i) {
      const std::int64_t channel = at + static_cast<std::int64_t>(i % kStripVectors) * kVector;
      const std::int64_t left = task.channels - channel;
      const float* from = border + (n + static_cast<std::int64_t>(i / kStripVectors)) * task.scan->channels +
                          task.first_channel + channel;
      VecF32 h = hn::Zero(d);
      if (left >= kVector) h = hn::LoadU(d, from);
      if (left > 0 && left < kVector) h = load_part(from, static_cast<std::size_t>(left));
      hn::Store(h, d, s.h + i * kLanes);
    }
    const SelectiveStrip strip{.rows = rows,
                               .b = task.in->b.row(first_row) + column,
                               .c = task.in->c.row(first_row) + column,
                               .b_stride = task.in->b.stride,
                               .c_stride = task.in->c.stride,
                               .rates = s.rates + state,
                               .carried = s.carried + state,
                               .a = s.a + state,
                               .dt = s.dt + row,
                               .dt_x = s.dt_x + row,
                               .dy = s.dy + row,
                               .y = s.y + row,
                               .to_input = s.to_input + row,
                               .to_step = s.to_step + row};
    recompute_states<kCount, kFirst>(strip, s);
    recur_backwards<kCount, kFirst>(strip, s);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < kStates; ++i) {
      task.b.row(first_row + r)[n + i] = sum_lanes(hn::Load(d, s.b + (r * kStates + i) * kVector));
      task.c.row(first_row + r)[n + i] = sum_lanes(hn::Load(d, s.c + (r * kStates + i) * kVector));
    }
  }
}

template <bool kFirst>
void walk_group(const SelectiveBackwardTask& task, const float* border, std::int64_t first_row, std::int64_t rows,
                std::int64_t n, std::int64_t count, const SelectiveBackwardScratch& s) {
  if (count == kStateGroup) {
    walk_states<kStateGroup, kFirst>(task, border, first_row, rows, n, s);
  } else {
    walk_states<1, kFirst>(task, border, first_row, rows, n, s);
  }
}

// The gradients of a chunk's rows, from the sums over the states.
void finish_rows(const SelectiveBackwardTask& task, std::int64_t first_row, std::int64_t rows,
                 const SelectiveBackwardScratch& s) {
  const F32 d;
  const SelectiveScan& scan = *task.scan;
  const SelectiveScanGradients& to = *task.gradients;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = first_row + r;
    for_vectors(task.channels, [&](auto whole, std::int64_t at, std::size_t count) HWY_ATTR {
      constexpr bool kWhole = decltype(whole)::value;
      const std::int64_t e = task.first_channel + at, from = SelectiveBackwardScratch::row_at(r, at);
      const VecF32 x = load<kWhole>(task.in->x.row(row) + e, count), dy = hn::Load(d, s.dy + from);
      const VecF32 to_input = hn::Load(d, s.to_input + from);
      VecF32 to_x = hn::Mul(hn::Load(d, s.dt + from), to_input), y = hn::Load(d, s.y + from);
      if (scan.d != nullptr) {
        const VecF32 skip = load<kWhole>(scan.d + e, count);
        to_x = hn::MulAdd(skip, dy, to_x);
        y = hn::MulAdd(skip, x, y);
        hn::Store(hn::MulAdd(dy, x, hn::Load(d, s.d + at)), d, s.d + at);
      }
      // A / ln 2 stands in the sum in place of A.
      VecF32 to_step =
          hn::MulAdd(hn::Set(d, 0.693147180559945309F), hn::Load(d, s.to_step + from), hn::Mul(x, to_input));
      if (scan.dt_softplus) to_step = hn::Mul(to_step, sigmoid_f32(raw_step<kWhole>(task, row, e, count)));
      hn::Store(hn::Add(hn::Load(d, s.bias + at), to_step), d, s.bias + at);
      if (!task.in->z.empty()) {
        const VecF32 z = load<kWhole>(task.in->z.row(row) + e, count), sigmoid = sigmoid_f32(z);
        const VecF32 slope = hn::MulAdd(hn::Mul(z, sigmoid), hn::Sub(hn::Set(d, 1.0F), sigmoid), sigmoid);
        const VecF32 up = load<kWhole>(task.dy.row(row) + e, count);
        store<kWhole>(hn::Mul(hn::Mul(up, y), slope), to.z.row(row) + e, count);
      }
      store<kWhole>(to_x, to.x.row(row) + e, count);
      store<kWhole>(to_step, to.dt.row(row) + e, count);
    });
  }
}

void selective_backward_task(const SelectiveBackwardTask& task, std::span<const SelectiveBackwardSequence> sequences,
                             float* scratch) {
  const std::int64_t states = task.scan->states;
  const SelectiveBackwardScratch s(scratch, states);
  load_states(task, task.scan->a, 1.44269504088896341F, s.rates);
  load_states(task, nullptr, 0.0F, s.a);
  // Rows past the channels, which are never written, have to be numbers.
  for (float* rows : {s.dt, s.dt_x, s.dy}) std::fill_n(rows, kSelectiveChunk * kBlockChannels, 0.0F);
  for (float* sums : {s.d, s.bias}) std::fill_n(sums, kBlockChannels, 0.0F);
  for (const SelectiveBackwardSequence& sequence : sequences) {
    load_states(task, sequence.state.final_state, 1.0F, s.carried);
    const std::int64_t chunks = (sequence.rows + kSelectiveChunk - 1) / kSelectiveChunk;
    for (std::int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
      const std::int64_t done = chunk * kSelectiveChunk, first_row = sequence.first_row + done;
      const std::int64_t rows = std::min(kSelectiveChunk, sequence.rows - done);
      const float* border = sequence.borders + chunk * states * task.scan->channels;
      prepare_rows(task, first_row, rows, s);
      for (std::int64_t n = 0; n < states;) {
        const std::int64_t count = n + kStateGroup <= states ? kStateGroup : 1;
        if (n == 0) walk_group<true>(task, border, first_row, rows, n, count, s);
        if (n > 0) walk_group<false>(task, border, first_row, rows, n, count, s);
        n += count;
      }
      finish_rows(task, first_row, rows, s);
    }
    if (sequence.state.initial_state != nullptr) store_states(task, s.carried, sequence.state.initial_state);
  }
  store_states(task, s.a, task.a);
  std::copy_n(s.d, task.channels, task.d + task.first_channel);
  std::copy_n(s.bias, task.channels, task.bias + task.first_channel);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(selective_backward_task);

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
    const std::span<float> scratch = thread_scratch(static_cast<std::size_t>(scratch_floats(scan.states)));
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
