#include "krait/kernels/scan_selective.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"
#include "krait/kernels/state_storage.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_SCAN_SELECTIVE_CPP_
#define KRAIT_KERNELS_SCAN_SELECTIVE_CPP_
namespace krait::kernels {
namespace {

// A task is one sequence and a block of channels: stretches of 512 bytes of every row, long enough for the
// prefetchers, short enough that one sequence of 1536 channels makes twelve tasks.
constexpr std::int64_t kBlockChannels = 128;
// Rows are walked in tiles whose dt and dt x, later y, stay in the first cache beside the states (16 KiB each).
constexpr std::int64_t kTileRows = 16;
static_assert(kSelectiveChunk % kTileRows == 0);

struct SelectiveTask {
  RowsIn x, dt, b, c, z;
  RowsOut y;
  const SelectiveScan* scan;
  std::int64_t first_row, rows;
  std::byte* state;
  float* borders;                        // [chunks of the sequence, N, E] or null
  std::int64_t first_channel, channels;  // all of one group
  std::int64_t group, first_in_group;

  // Of state n: the values and the scale from channel `at` of the block on.
  std::byte* values(std::int64_t n, std::int64_t at) const {
    return state + (n * scan->channels + first_channel + at) * state_value_bytes(scan->state_dtype);
  }
  std::byte* scale(std::int64_t n, std::int64_t at) const {
    if (scan->state_dtype != DType::kI8) return nullptr;
    const std::int64_t width = scan->channels / scan->groups;
    const std::int64_t block = (n * scan->groups + group) * state_blocks(width) + (first_in_group + at) / kStateBlock;
    return state + state_scales_offset(scan->states * scan->groups, width) + 4 * block;
  }
};

}  // namespace
}  // namespace krait::kernels
#endif

//
#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_selective.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"
#include "krait/kernels/simd/state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Scratch of one tile, one vector of channels wide per column.
struct Tile {
  alignas(64) float dt[kTileRows][kBlockChannels];
  alignas(64) float dt_x[kTileRows][kBlockChannels];  // replaced by y
};

template <bool kWhole>
HWY_INLINE void prepare_at(const SelectiveTask& task, Tile& tile, std::int64_t row, std::int64_t tile_row,
                           std::int64_t at, std::size_t count) {
  const F32 d;
  const std::int64_t e = task.first_channel + at;
  VecF32 dt = load<kWhole>(task.dt.row(row) + e, count);
  if (task.scan->dt_bias != nullptr) dt = hn::Add(dt, load<kWhole>(task.scan->dt_bias + e, count));
  if (task.scan->dt_softplus) dt = softplus_f32(dt);
  const VecF32 x = load<kWhole>(task.x.row(row) + e, count);
  hn::Store(dt, d, tile.dt[tile_row] + at);
  hn::Store(hn::Mul(dt, x), d, tile.dt_x[tile_row] + at);
}

template <bool kWhole>
HWY_INLINE void finish_at(const SelectiveTask& task, const Tile& tile, std::int64_t row, std::int64_t tile_row,
                          std::int64_t at, std::size_t count) {
  const std::int64_t e = task.first_channel + at;
  VecF32 y = hn::Load(F32(), tile.dt_x[tile_row] + at);
  if (task.scan->d != nullptr) {
    y = hn::MulAdd(load<kWhole>(task.scan->d + e, count), load<kWhole>(task.x.row(row) + e, count), y);
  }
  if (!task.z.empty()) y = hn::Mul(y, silu_f32(load<kWhole>(task.z.row(row) + e, count)));
  store<kWhole>(y, task.y.row(row) + e, count);
}

// The recurrence of one vector of channels over the rows of a tile. States go four at a time, each with a
// partial sum of y of its own; what is left of N goes one at a time.
inline constexpr std::size_t kStateGroup = 4;

template <std::size_t kCount>
HWY_INLINE void recur_states(VecF32 dt, VecF32 dt_x, const float* HWY_RESTRICT b, const float* HWY_RESTRICT c,
                             float* HWY_RESTRICT pairs, VecF32 (&y)[kCount]) {
  const F32 d;
  VecF32 decay[kCount];
  for (std::size_t i = 0; i < kCount; ++i) decay[i] = hn::Mul(dt, hn::Load(d, pairs + 2 * i * kLanes));
  exp2_f32(decay);
  for (std::size_t i = 0; i < kCount; ++i) {
    const VecF32 input = hn::Mul(dt_x, hn::Set(d, b[i]));
    float* h = pairs + (2 * i + 1) * kLanes;
    const VecF32 next = hn::MulAdd(decay[i], hn::Load(d, h), input);
    hn::Store(next, d, h);
    y[i] = hn::MulAdd(next, hn::Set(d, c[i]), y[i]);
  }
}

HWY_INLINE void recur(const SelectiveTask& task, Tile& tile, std::int64_t first_row, std::int64_t rows, std::int64_t at,
                      float* HWY_RESTRICT pairs) {
  const F32 d;
  const auto states = static_cast<std::size_t>(task.scan->states);
  const std::int64_t group = task.group * task.scan->states;
  const std::int64_t e = task.first_channel + at;
  const std::int64_t last_row = task.first_row + task.rows - 1;
  for (std::int64_t r = 0; r < rows; ++r) {
    // What this tile still needs and the next one begins with: 512 bytes of each row, too short for the prefetchers.
    const std::int64_t next = std::min(first_row + r + kTileRows, last_row);
    __builtin_prefetch(task.dt.row(next) + e, 0);
    __builtin_prefetch(task.x.row(next) + e, 0);
    if (!task.z.empty()) __builtin_prefetch(task.z.row(first_row + r) + e, 0);
    __builtin_prefetch(task.y.row(first_row + r) + e, 1);
    const float* b = task.b.row(first_row + r) + group;
    const float* c = task.c.row(first_row + r) + group;
    const VecF32 dt = hn::Load(d, tile.dt[r] + at);
    const VecF32 dt_x = hn::Load(d, tile.dt_x[r] + at);
    VecF32 y[kStateGroup];
    for (VecF32& v : y) v = hn::Zero(d);
    std::size_t n = 0;
    for (; n + kStateGroup <= states; n += kStateGroup) {
      recur_states(dt, dt_x, b + n, c + n, pairs + 2 * n * kLanes, y);
    }
    for (; n < states; ++n) {
      VecF32 one[1] = {y[0]};
      recur_states(dt, dt_x, b + n, c + n, pairs + 2 * n * kLanes, one);
      y[0] = one[0];
    }
    hn::Store(hn::Add(hn::Add(y[0], y[1]), hn::Add(y[2], y[3])), d, tile.dt_x[r] + at);
  }
}

// Copies the state between where it is stored and `pairs`, aligned scratch of [vectors of the block][N][2][lanes]: A
// and h side by side, so that what one vector of channels works on is one stretch of cache lines and no load meets a
// store 4 KiB away. The scratch has room for whole blocks of 64 channels.
template <class State>
HWY_INLINE void load_block_state(const SelectiveTask& task, float* pairs) {
  const std::int64_t states = task.scan->states;
  for (std::int64_t at = 0; at < task.channels; at += kStateBlock) {
    for (std::int64_t n = 0; n < states; ++n) {
      VecF32 v[kBlockVectors];
      if (at + kStateBlock <= task.channels) {
        State::load(task.values(n, at), task.scale(n, at), v);
      } else {
        load_state_part<State>(task.values(n, at), task.scale(n, at), static_cast<std::size_t>(task.channels - at), v);
      }
      for (std::size_t j = 0; j < kBlockVectors; ++j) {
        const std::int64_t vector = at / static_cast<std::int64_t>(kLanes) + static_cast<std::int64_t>(j);
        hn::Store(v[j], F32(), pairs + (2 * (vector * states + n) + 1) * static_cast<std::int64_t>(kLanes));
      }
    }
  }
}

template <class State>
HWY_INLINE void store_block_state(const SelectiveTask& task, const float* pairs) {
  const std::int64_t states = task.scan->states;
  for (std::int64_t at = 0; at < task.channels; at += kStateBlock) {
    StateNoise<kBlockVectors> noise;
    for (std::int64_t n = 0; n < states; ++n) {
      VecF32 v[kBlockVectors];
      for (std::size_t j = 0; j < kBlockVectors; ++j) {
        const std::int64_t vector = at / static_cast<std::int64_t>(kLanes) + static_cast<std::int64_t>(j);
        v[j] = hn::Load(F32(), pairs + (2 * (vector * states + n) + 1) * static_cast<std::int64_t>(kLanes));
      }
      if (n == 0) noise.start(v);
      if (at + kStateBlock <= task.channels) {
        State::store(v, task.values(n, at), task.scale(n, at), noise);
      } else {
        // Channels past the end have x = 0, hence h = 0: they do not sway the scale.
        store_state_part<State>(v, task.values(n, at), task.scale(n, at), static_cast<std::size_t>(task.channels - at),
                                noise);
      }
    }
  }
}

// The state before a chunk as it stands in the scratch, to where the backward pass looks for it.
HWY_NOINLINE void store_border(const SelectiveTask& task, std::int64_t chunk, const float* pairs) {
  const auto lanes = static_cast<std::int64_t>(kLanes);
  for (std::int64_t n = 0; n < task.scan->states; ++n) {
    float* to = task.borders + (chunk * task.scan->states + n) * task.scan->channels + task.first_channel;
    for_vectors(task.channels, [&](auto whole, std::int64_t at, std::size_t count) HWY_ATTR {
      const float* h = pairs + (2 * (at / lanes * task.scan->states + n) + 1) * lanes;
      store<decltype(whole)::value>(hn::Load(F32(), h), to + at, count);
    });
  }
}

// One row with a state in f32, which is read and written once where it stands. The same arithmetic as above, but states
// outside and channels inside: stretches of whole cache lines of each state's row, the next ones asked for in time.
void selective_step_task(const SelectiveTask& task) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t states = task.scan->states;
  const float* b = task.b.row(task.first_row) + task.group * states;
  const float* c = task.c.row(task.first_row) + task.group * states;
  const VecF32 to_power_of_two = hn::Set(d, 1.44269504088896341F);
  const auto rates = [&](std::int64_t n) { return task.scan->a + n * task.scan->channels + task.first_channel; };
  const auto ask_for = [&](std::int64_t first) {
    for (std::int64_t n = first; n < std::min(first + static_cast<std::int64_t>(kStateGroup), states); ++n) {
      for (std::int64_t at = 0; at < task.channels; at += 16) {
        hwy::Prefetch(task.values(n, at));
        hwy::Prefetch(rates(n) + at);
      }
    }
  };
  ask_for(0);
  Tile tile;
  alignas(64) float y[kStateGroup][kBlockChannels];
  for (std::int64_t at = 0; at < task.channels; at += lanes) {
    prepare_at<true>(task, tile, task.first_row, 0, at, kLanes);
    for (auto& part : y) hn::Store(hn::Zero(d), d, part + at);
  }
  for (std::int64_t n = 0; n < states; n += static_cast<std::int64_t>(kStateGroup)) {
    ask_for(n + static_cast<std::int64_t>(kStateGroup));
    for (std::int64_t at = 0; at < task.channels; at += lanes) {
      const VecF32 dt = hn::Load(d, tile.dt[0] + at), dt_x = hn::Load(d, tile.dt_x[0] + at);
      VecF32 decay[kStateGroup];
      for (std::size_t i = 0; i < kStateGroup; ++i) {
        const VecF32 rate = hn::LoadU(d, rates(n + static_cast<std::int64_t>(i)) + at);
        decay[i] = hn::Mul(dt, hn::Mul(rate, to_power_of_two));
      }
      exp2_f32(decay);
      for (std::size_t i = 0; i < kStateGroup; ++i) {
        const std::int64_t state = n + static_cast<std::int64_t>(i);
        auto* h = reinterpret_cast<float*>(task.values(state, at));
        const VecF32 next = hn::MulAdd(decay[i], hn::LoadU(d, h), hn::Mul(dt_x, hn::Set(d, b[state])));
        hn::StoreU(next, d, h);
        hn::Store(hn::MulAdd(next, hn::Set(d, c[state]), hn::Load(d, y[i] + at)), d, y[i] + at);
      }
    }
  }
  for (std::int64_t at = 0; at < task.channels; at += lanes) {
    const auto part = [&](std::size_t i) HWY_ATTR { return hn::Load(d, y[i] + at); };
    hn::Store(hn::Add(hn::Add(part(0), part(1)), hn::Add(part(2), part(3))), d, tile.dt_x[0] + at);
    finish_at<true>(task, tile, task.first_row, 0, at, kLanes);
  }
}

// Whether the step above can take a task: whole vectors of channels, whole groups of states.
bool is_plain_step(const SelectiveTask& task) {
  return task.rows == 1 && task.borders == nullptr && task.scan->state_dtype == DType::kF32 &&
         task.channels % static_cast<std::int64_t>(kLanes) == 0 &&
         task.scan->states % static_cast<std::int64_t>(kStateGroup) == 0;
}

// The rows of one tile, from their inputs to y.
HWY_NOINLINE void walk_tile(const SelectiveTask& task, Tile& tile, std::int64_t first, std::int64_t rows,
                            float* pairs) {
  const auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t whole = task.channels / lanes * lanes;
  const auto rest = static_cast<std::size_t>(task.channels - whole);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t at = 0; at < whole; at += lanes) prepare_at<true>(task, tile, first + r, r, at, kLanes);
    if (rest > 0) prepare_at<false>(task, tile, first + r, r, whole, rest);
  }
  for (std::int64_t at = 0; at < task.channels; at += lanes) {
    recur(task, tile, first, rows, at, pairs + 2 * at * task.scan->states);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t at = 0; at < whole; at += lanes) finish_at<true>(task, tile, first + r, r, at, kLanes);
    if (rest > 0) finish_at<false>(task, tile, first + r, r, whole, rest);
  }
}

void selective_scan_task(const SelectiveTask& task, float* pairs) {
  if (is_plain_step(task)) {
    selective_step_task(task);
    return;
  }
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t states = task.scan->states;
  const std::int64_t vectors = (task.channels + lanes - 1) / lanes;
  const std::int64_t whole = task.channels / lanes * lanes;
  const auto rest = static_cast<std::size_t>(task.channels - whole);
  for (std::int64_t v = 0; v < vectors; ++v) {
    for (std::int64_t n = 0; n < states; ++n) {
      const float* from = task.scan->a + n * task.scan->channels + task.first_channel + v * lanes;
      const VecF32 rate = (v + 1) * lanes <= task.channels ? hn::LoadU(d, from) : load_part(from, rest);
      hn::Store(hn::Mul(rate, hn::Set(d, 1.44269504088896341F)), d, pairs + 2 * (v * states + n) * lanes);
    }
  }
  with_state_type(task.scan->state_dtype, [&](auto type) { load_block_state<decltype(type)>(task, pairs); });
  Tile tile;
  for (std::int64_t done = 0; done < task.rows; done += kTileRows) {
    if (task.borders != nullptr && done % kSelectiveChunk == 0) store_border(task, done / kSelectiveChunk, pairs);
    walk_tile(task, tile, task.first_row + done, std::min(kTileRows, task.rows - done), pairs);
  }
  with_state_type(task.scan->state_dtype, [&](auto type) { store_block_state<decltype(type)>(task, pairs); });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "krait/kernels/scratch.h"

namespace krait::kernels {
namespace {

HWY_EXPORT(selective_scan_task);

std::int64_t chunks_of(const SequenceRows& sequence) { return (sequence.rows + kSelectiveChunk - 1) / kSelectiveChunk; }

}  // namespace

std::int64_t selective_chunks(std::span<const SequenceRows> sequences) {
  std::int64_t count = 0;
  for (const SequenceRows& sequence : sequences) count += chunks_of(sequence);
  return count;
}

void selective_scan(ThreadPool& pool, const SelectiveScan& scan, RowsIn x, RowsIn dt, RowsIn b, RowsIn c, RowsIn z,
                    std::span<const SequenceRows> sequences, RowsOut y, float* borders) {
  KRAIT_CHECK(scan.groups > 0 && scan.channels % scan.groups == 0, "{} channels in {} groups", scan.channels,
              scan.groups);
  KRAIT_CHECK_EQ(x.columns, scan.channels);
  KRAIT_CHECK_EQ(dt.columns, scan.channels);
  KRAIT_CHECK_EQ(y.columns, scan.channels);
  KRAIT_CHECK_EQ(b.columns, scan.groups * scan.states);
  KRAIT_CHECK_EQ(c.columns, scan.groups * scan.states);
  KRAIT_CHECK(z.empty() || z.columns == scan.channels, "{} columns of z", z.columns);
  KRAIT_CHECK(is_state_dtype(scan.state_dtype), "a state of {}", to_string(scan.state_dtype));
  const std::int64_t width = scan.channels / scan.groups;
  const std::int64_t blocks_per_group = (width + kBlockChannels - 1) / kBlockChannels;
  const std::int64_t blocks = blocks_per_group * scan.groups;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= y.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, y.rows);
  }
  std::vector<float*> border_of;  // of each sequence
  for (std::size_t i = 0; borders != nullptr && i < sequences.size(); ++i) {
    border_of.push_back(borders);
    borders += chunks_of(sequences[i]) * scan.states * scan.channels;
  }
  const auto tasks = static_cast<std::int64_t>(sequences.size()) * blocks;
  // A block of one row takes well under a microsecond.
  const bool steps = std::ranges::all_of(sequences, [](const SequenceRows& sequence) { return sequence.rows <= 1; });
  pool.parallel_for(tasks, steps ? 3 : 1, [&](std::int64_t first, std::int64_t last) {
    // A and h of whole blocks.
    const std::span<float> scratch = thread_scratch(static_cast<std::size_t>(2 * scan.states * kBlockChannels));
    for (std::int64_t i = first; i < last; ++i) {
      const auto which = static_cast<std::size_t>(i / blocks);
      const SequenceRows& sequence = sequences[which];
      if (sequence.rows == 0) continue;
      const std::int64_t block = i % blocks;
      const std::int64_t group = block / blocks_per_group;
      const std::int64_t within = block % blocks_per_group * kBlockChannels;
      const SelectiveTask task{.x = x,
                               .dt = dt,
                               .b = b,
                               .c = c,
                               .z = z,
                               .y = y,
                               .scan = &scan,
                               .first_row = sequence.first_row,
                               .rows = sequence.rows,
                               .state = sequence.state,
                               .borders = border_of.empty() ? nullptr : border_of[which],
                               .first_channel = group * width + within,
                               .channels = std::min(kBlockChannels, width - within),
                               .group = group,
                               .first_in_group = within};
      HWY_DYNAMIC_DISPATCH(selective_scan_task)(task, scratch.data());
    }
  });
}

}  // namespace krait::kernels
#endif
