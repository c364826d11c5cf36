#include "krait/kernels/scan_trapezoidal.h"

#include <algorithm>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/saved_chunks.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_trapezoidal.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/trapezoidal_chunks-inl.h"
#include "krait/kernels/simd/trapezoidal_step-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(trapezoidal_prepare);
HWY_EXPORT(trapezoidal_step);
HWY_EXPORT(trapezoidal_chunks);
HWY_EXPORT(trapezoidal_chunks_scratch);

// Of a single row: so many values of the state make a task, some 5 µs.
constexpr std::int64_t kStepValues = 32768;

// Ranks that have a step of their own; the others run as chunks of one row.
bool has_step(std::int64_t rank) { return rank == 1 || rank == 2 || rank == 4; }

// The heads of one sequence that a task works on.
struct Part {
  std::int64_t sequence, first_head, heads;
  std::int64_t first_chunk;  // of the sequence, among the saved ones
};

}  // namespace

void trapezoidal_check(const TrapezoidalScan& scan, const TrapezoidalInputs& in, RowsIn y) {
  KRAIT_CHECK(scan.groups > 0 && scan.heads % scan.groups == 0, "{} heads in {} groups", scan.heads, scan.groups);
  KRAIT_CHECK(scan.rank > 0 && scan.chunk > 0, "rank {}, chunk {}", scan.rank, scan.chunk);
  KRAIT_CHECK(scan.states % 2 == 0 && 2 * scan.angles <= scan.states, "{} angles of {} states", scan.angles,
              scan.states);
  KRAIT_CHECK(is_state_dtype(scan.state_dtype), "a state of {}", to_string(scan.state_dtype));
  for (const RowsIn& rows : {in.x, in.z, y}) KRAIT_CHECK_EQ(rows.columns, scan.heads * scan.head_width);
  for (const RowsIn& rows : {in.b, in.c}) KRAIT_CHECK_EQ(rows.columns, scan.rank * scan.groups * scan.states);
  for (const RowsIn& rows : {in.dt, in.a, in.trap}) KRAIT_CHECK_EQ(rows.columns, scan.heads);
  KRAIT_CHECK_EQ(in.angle.columns, scan.angles);
}

void trapezoidal_prepare_rows(ThreadPool& pool, const TrapezoidalScan& scan, const TrapezoidalInputs& in,
                              RowsOut prepared) {
  pool.parallel_for(prepared.rows, 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) {
      HWY_DYNAMIC_DISPATCH(trapezoidal_prepare)(scan, in, row, prepared.row(row));
    }
  });
}

void trapezoidal_scan(ThreadPool& pool, const TrapezoidalScan& scan, const TrapezoidalInputs& in,
                      std::span<const SequenceRows> sequences, RowsOut y, const TrapezoidalSaved* saved) {
  trapezoidal_check(scan, in, y);
  const TrapezoidalColumns columns(scan);
  thread_local AlignedBuffer buffer;
  const auto bytes = static_cast<std::size_t>(y.rows * columns.count) * sizeof(float);
  if (buffer.size() < bytes) buffer = AlignedBuffer(bytes);
  const RowsOut prepared(buffer.as<float>().data(), y.rows, columns.count);
  const std::int64_t heads_per_step =
      std::max<std::int64_t>(1, kStepValues / std::max<std::int64_t>(1, scan.states * scan.head_width));
  std::vector<Part> parts;
  std::int64_t first_chunk = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRows& sequence = sequences[i];
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= y.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, y.rows);
    if (sequence.rows == 0) continue;
    const std::int64_t step = sequence.rows == 1 ? heads_per_step : 1;
    for (std::int64_t head = 0; head < scan.heads; head += step) {
      parts.push_back({static_cast<std::int64_t>(i), head, std::min(step, scan.heads - head), first_chunk});
    }
    first_chunk += saved_chunks(sequence.rows, scan.chunk_rows());
  }
  trapezoidal_prepare_rows(pool, scan, in, prepared);
  const std::int64_t chunk_floats = HWY_DYNAMIC_DISPATCH(trapezoidal_chunks_scratch)(scan);
  const std::int64_t step_floats =
      5 * trapezoidal_padded(scan.rank * scan.states) + 3 * scan.rank * state_blocks(scan.head_width) * kStateBlock;
  pool.parallel_for(static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Part& part = parts[static_cast<std::size_t>(i)];
      const SequenceRows& sequence = sequences[static_cast<std::size_t>(part.sequence)];
      const TrapezoidalTask task{.scan = &scan,
                                 .in = &in,
                                 .prepared = prepared,
                                 .y = y,
                                 .first_row = sequence.first_row,
                                 .rows = sequence.rows,
                                 .first_head = part.first_head,
                                 .heads = part.heads,
                                 .state = sequence.state,
                                 .saved = saved == nullptr ? TrapezoidalSaved() : *saved,
                                 .first_chunk = part.first_chunk};
      if (saved == nullptr && sequence.rows == 1 && has_step(scan.rank)) {
        HWY_DYNAMIC_DISPATCH(trapezoidal_step)
        (task, thread_scratch(static_cast<std::size_t>(step_floats)).data());
      } else {
        HWY_DYNAMIC_DISPATCH(trapezoidal_chunks)
        (task, thread_scratch(static_cast<std::size_t>(chunk_floats)).data());
      }
    }
  });
}

}  // namespace krait::kernels
#endif
