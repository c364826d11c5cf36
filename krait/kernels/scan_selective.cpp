#include "krait/kernels/scan_selective.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_SCAN_SELECTIVE_CPP_
#define KRAIT_KERNELS_SCAN_SELECTIVE_CPP_
namespace krait::kernels {
namespace {

// A task is one sequence and a block of channels: four cache lines of every row, so that lines are used whole.
constexpr std::int64_t kBlockChannels = 64;
// Rows are walked in tiles whose dt, dt x and y (3 * 32 * 64 floats) stay in L1 between the passes over them.
constexpr std::int64_t kTileRows = 32;

struct SelectiveTask {
  RowsIn x, dt, b, c, z;
  RowsOut y;
  const SelectiveScan* scan;
  std::int64_t first_row, rows;
  float* state;
  std::int64_t first_channel, channels;  // all of one group
  std::int64_t group;
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_selective.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Scratch of one tile, one vector of channels wide per column.
struct Tile {
  alignas(64) float dt[kTileRows][kBlockChannels];
  alignas(64) float dt_x[kTileRows][kBlockChannels];
  alignas(64) float y[kTileRows][kBlockChannels];
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
  VecF32 y = hn::Load(F32(), tile.y[tile_row] + at);
  if (task.scan->d != nullptr) {
    y = hn::MulAdd(load<kWhole>(task.scan->d + e, count), load<kWhole>(task.x.row(row) + e, count), y);
  }
  if (!task.z.empty()) y = hn::Mul(y, silu_f32(load<kWhole>(task.z.row(row) + e, count)));
  store<kWhole>(y, task.y.row(row) + e, count);
}

// h and A of one vector of channels, [N, lanes]; y of the tile's rows. kStates > 0 fixes N, so that the loop over the
// states unrolls; the order of operations is the same.
template <std::int64_t kStates>
HWY_INLINE void recur(const SelectiveTask& task, Tile& tile, std::int64_t first_row, std::int64_t rows, std::int64_t at,
                      const float* HWY_RESTRICT a, float* HWY_RESTRICT h) {
  const F32 d;
  const std::int64_t states = kStates > 0 ? kStates : task.scan->states;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* b = task.b.row(first_row + r) + task.group * states;
    const float* c = task.c.row(first_row + r) + task.group * states;
    const VecF32 dt = hn::Load(d, tile.dt[r] + at);
    const VecF32 dt_x = hn::Load(d, tile.dt_x[r] + at);
    VecF32 y = hn::Zero(d);
    for (std::int64_t n = 0; n < states; ++n) {
      const VecF32 decay = exp_f32(hn::Mul(dt, hn::Load(d, a + n * lanes)));
      const VecF32 next = hn::MulAdd(decay, hn::Load(d, h + n * lanes), hn::Mul(dt_x, hn::Set(d, b[n])));
      hn::Store(next, d, h + n * lanes);
      y = hn::MulAdd(next, hn::Set(d, c[n]), y);
    }
    hn::Store(y, d, tile.y[r] + at);
  }
}

// `scratch` holds A and h of the block, [vectors of the block][N][lanes] each, aligned.
void selective_scan_task(const SelectiveTask& task, float* scratch) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t states = task.scan->states;
  const std::int64_t all = task.scan->channels;
  const std::int64_t vectors = (task.channels + lanes - 1) / lanes;
  const std::int64_t whole = task.channels / lanes * lanes;
  const auto rest = static_cast<std::size_t>(task.channels - whole);
  float* a = scratch;
  float* h = scratch + vectors * states * lanes;
  for (std::int64_t v = 0; v < vectors; ++v) {
    for (std::int64_t n = 0; n < states; ++n) {
      const std::int64_t from = n * all + task.first_channel + v * lanes;
      const std::int64_t to = (v * states + n) * lanes;
      const bool full = (v + 1) * lanes <= task.channels;
      hn::Store(full ? hn::LoadU(d, task.scan->a + from) : load_part(task.scan->a + from, rest), d, a + to);
      hn::Store(full ? hn::LoadU(d, task.state + from) : load_part(task.state + from, rest), d, h + to);
    }
  }
  Tile tile;
  for (std::int64_t done = 0; done < task.rows; done += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, task.rows - done);
    const std::int64_t first = task.first_row + done;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t at = 0; at < whole; at += lanes) prepare_at<true>(task, tile, first + r, r, at, kLanes);
      if (rest > 0) prepare_at<false>(task, tile, first + r, r, whole, rest);
    }
    for (std::int64_t v = 0; v < vectors; ++v) {
      const std::int64_t offset = v * states * lanes;
      if (states == 16) {
        recur<16>(task, tile, first, rows, v * lanes, a + offset, h + offset);
      } else {
        recur<0>(task, tile, first, rows, v * lanes, a + offset, h + offset);
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t at = 0; at < whole; at += lanes) finish_at<true>(task, tile, first + r, r, at, kLanes);
      if (rest > 0) finish_at<false>(task, tile, first + r, r, whole, rest);
    }
  }
  for (std::int64_t v = 0; v < vectors; ++v) {
    for (std::int64_t n = 0; n < states; ++n) {
      const std::int64_t to = n * all + task.first_channel + v * lanes;
      const VecF32 value = hn::Load(d, h + (v * states + n) * lanes);
      if ((v + 1) * lanes <= task.channels) {
        hn::StoreU(value, d, task.state + to);
      } else {
        store_part(value, task.state + to, rest);
      }
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "krait/kernels/scratch.h"

namespace krait::kernels {
namespace {

HWY_EXPORT(selective_scan_task);

}  // namespace

void selective_scan(ThreadPool& pool, const SelectiveScan& scan, RowsIn x, RowsIn dt, RowsIn b, RowsIn c, RowsIn z,
                    std::span<const SequenceRows> sequences, RowsOut y) {
  KRAIT_CHECK(scan.groups > 0 && scan.channels % scan.groups == 0, "{} channels in {} groups", scan.channels,
              scan.groups);
  KRAIT_CHECK_EQ(x.columns, scan.channels);
  KRAIT_CHECK_EQ(dt.columns, scan.channels);
  KRAIT_CHECK_EQ(y.columns, scan.channels);
  KRAIT_CHECK_EQ(b.columns, scan.groups * scan.states);
  KRAIT_CHECK_EQ(c.columns, scan.groups * scan.states);
  KRAIT_CHECK(z.empty() || z.columns == scan.channels, "{} columns of z", z.columns);
  const std::int64_t width = scan.channels / scan.groups;
  const std::int64_t blocks_per_group = (width + kBlockChannels - 1) / kBlockChannels;
  const std::int64_t blocks = blocks_per_group * scan.groups;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= y.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, y.rows);
  }
  const auto tasks = static_cast<std::int64_t>(sequences.size()) * blocks;
  pool.parallel_for(tasks, 1, [&](std::int64_t first, std::int64_t last) {
    // A and h, each padded to whole vectors (at most 16 lanes).
    const std::span<float> scratch = thread_scratch(static_cast<std::size_t>(2 * scan.states * (kBlockChannels + 16)));
    for (std::int64_t i = first; i < last; ++i) {
      const SequenceRows& sequence = sequences[static_cast<std::size_t>(i / blocks)];
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
                               .first_channel = group * width + within,
                               .channels = std::min(kBlockChannels, width - within),
                               .group = group};
      HWY_DYNAMIC_DISPATCH(selective_scan_task)(task, scratch.data());
    }
  });
}

}  // namespace krait::kernels
#endif
