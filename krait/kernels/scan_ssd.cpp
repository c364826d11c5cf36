#include "krait/kernels/scan_ssd.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_ssd.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/ssd_chunks-inl.h"
#include "krait/kernels/simd/ssd_step-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(ssd_step);
HWY_EXPORT(ssd_chunk_products);
HWY_EXPORT(ssd_chunks);

// Of a single row: so many values of the state make a task, some 5 µs.
constexpr std::int64_t kStepValues = 32768;

// The heads of one sequence that a task works on.
struct Part {
  std::int64_t sequence, first_head, heads, first_chunk;
  float* borders;
};

}  // namespace

std::int64_t ssd_chunk_count(std::int64_t chunk, std::span<const SequenceRows> sequences) {
  std::int64_t count = 0;
  for (const SequenceRows& sequence : sequences) count += (sequence.rows + chunk - 1) / chunk;
  return count;
}

void ssd_scan(ThreadPool& pool, const SsdScan& scan, RowsIn x, RowsIn dt, RowsIn b, RowsIn c,
              std::span<const SequenceRows> sequences, RowsOut y, float* borders) {
  KRAIT_CHECK(scan.groups > 0 && scan.heads % scan.groups == 0, "{} heads in {} groups", scan.heads, scan.groups);
  KRAIT_CHECK(scan.chunk > 0, "chunk {}", scan.chunk);
  KRAIT_CHECK(is_state_dtype(scan.state_dtype), "a state of {}", to_string(scan.state_dtype));
  KRAIT_CHECK_EQ(x.columns, scan.heads * scan.head_width);
  KRAIT_CHECK_EQ(y.columns, scan.heads * scan.head_width);
  KRAIT_CHECK_EQ(dt.columns, scan.heads);
  KRAIT_CHECK_EQ(b.columns, scan.groups * scan.states);
  KRAIT_CHECK_EQ(c.columns, scan.groups * scan.states);
  const std::int64_t q = scan.chunk;
  const auto is_step = [&](const SequenceRows& sequence) { return sequence.rows == 1 && borders == nullptr; };
  const std::int64_t heads_per_step =
      std::max<std::int64_t>(1, kStepValues / std::max<std::int64_t>(1, scan.states * scan.head_width));
  std::vector<SsdChunk> chunks;
  std::vector<Part> parts;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRows& sequence = sequences[i];
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= y.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, y.rows);
    if (sequence.rows == 0) continue;
    const std::int64_t step = is_step(sequence) ? heads_per_step : 1;
    const auto first_chunk = static_cast<std::int64_t>(chunks.size());
    for (std::int64_t head = 0; head < scan.heads; head += step) {
      float* const border =
          borders == nullptr ? nullptr : borders + first_chunk * scan.heads * scan.states * scan.head_width;
      parts.push_back({static_cast<std::int64_t>(i), head, std::min(step, scan.heads - head), first_chunk, border});
    }
    if (is_step(sequence)) continue;
    for (std::int64_t done = 0; done < sequence.rows; done += q) {
      chunks.push_back({sequence.first_row + done, std::min(q, sequence.rows - done)});
    }
  }
  // C B^T and B^T of every chunk, [group][chunk].
  const auto chunk_count = static_cast<std::int64_t>(chunks.size());
  const std::int64_t product_rows = ssd_padded(q);
  thread_local AlignedBuffer products;
  const std::int64_t cb_floats = ssd_padded(scan.groups * chunk_count * product_rows * product_rows);
  const auto bytes =
      static_cast<std::size_t>(cb_floats + scan.groups * chunk_count * scan.states * product_rows) * sizeof(float);
  if (products.size() < bytes) products = AlignedBuffer(bytes);
  float* const cb = products.as<float>().data();
  float* const b_transposed = cb + cb_floats;
  pool.parallel_for(chunk_count * scan.groups, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const SsdChunk& chunk = chunks[static_cast<std::size_t>(i % chunk_count)];
      const std::int64_t from = i / chunk_count * scan.states;
      HWY_DYNAMIC_DISPATCH(ssd_chunk_products)
      (b.slice_rows(chunk.first_row, chunk.rows).slice_columns(from, scan.states),
       c.slice_rows(chunk.first_row, chunk.rows).slice_columns(from, scan.states), scan.states,
       b_transposed + i * scan.states * product_rows, cb + i * product_rows * product_rows, product_rows);
    }
  });
  pool.parallel_for(static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Part& part = parts[static_cast<std::size_t>(i)];
      const SequenceRows& sequence = sequences[static_cast<std::size_t>(part.sequence)];
      const SsdTask task{.scan = &scan,
                         .x = x,
                         .dt = dt,
                         .b = b,
                         .c = c,
                         .y = y,
                         .first_row = sequence.first_row,
                         .rows = sequence.rows,
                         .first_head = part.first_head,
                         .heads = part.heads,
                         .state = sequence.state,
                         .borders = part.borders,
                         .cb = cb,
                         .b_transposed = b_transposed,
                         .first_chunk = part.first_chunk,
                         .chunk_count = chunk_count};
      if (is_step(sequence)) {
        HWY_DYNAMIC_DISPATCH(ssd_step)(task);
      } else {
        const std::int64_t pq = ssd_padded(q), pp = ssd_padded(scan.head_width);
        const std::span<float> scratch =
            thread_scratch(static_cast<std::size_t>((5 + 6) * pq + (3 * pq + scan.states) * pp));
        HWY_DYNAMIC_DISPATCH(ssd_chunks)(task, scratch.data());
      }
    }
  });
}

}  // namespace krait::kernels
#endif
