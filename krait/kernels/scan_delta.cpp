#include "krait/kernels/scan_delta.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/saved_chunks.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_delta.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/delta_rows-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(delta_rows);

// So many values of state times rows make a task, some 5 µs.
constexpr std::int64_t kTaskValues = 32768;

struct Part {
  const SequenceRows* sequence;
  std::int64_t first_head, heads;
  std::int64_t first_chunk;  // of the sequence, among the saved ones
};

}  // namespace

void delta_scan(ThreadPool& pool, const DeltaScan& scan, const DeltaScanInputs& in,
                std::span<const SequenceRows> sequences, RowsOut o, float* saved) {
  KRAIT_CHECK(scan.chunk > 0, "chunks of {} rows", scan.chunk);
  KRAIT_CHECK(scan.key_heads > 0 && scan.value_heads % scan.key_heads == 0, "{} value heads and {} of keys",
              scan.value_heads, scan.key_heads);
  for (const RowsIn& rows : {in.q, in.k}) KRAIT_CHECK_EQ(rows.columns, scan.key_heads * scan.key_width);
  for (const RowsIn& rows : {in.dt, in.beta}) KRAIT_CHECK_EQ(rows.columns, scan.value_heads);
  KRAIT_CHECK_EQ(in.v.columns, scan.value_heads * scan.value_width);
  KRAIT_CHECK_EQ(o.columns, scan.value_heads * scan.value_width);
  for (const RowsIn& rows : {in.q, in.k, in.v, in.dt, in.beta}) KRAIT_CHECK_EQ(rows.rows, o.rows);
  const std::int64_t state_values = scan.key_width * scan.value_width;
  std::vector<Part> parts;
  std::int64_t first_chunk = 0;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= o.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, o.rows);
    if (sequence.rows == 0) continue;
    const std::int64_t step =
        std::max<std::int64_t>(1, kTaskValues / std::max<std::int64_t>(1, sequence.rows * state_values));
    for (std::int64_t head = 0; head < scan.value_heads; head += step) {
      parts.push_back({&sequence, head, std::min(step, scan.value_heads - head), first_chunk});
    }
    first_chunk += saved_chunks(sequence.rows, scan.chunk);
  }
  pool.parallel_for(static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Part& part = parts[static_cast<std::size_t>(i)];
      for (std::int64_t head = part.first_head; head < part.first_head + part.heads; ++head) {
        float* const chunks =
            saved == nullptr ? nullptr : saved + (part.first_chunk * scan.value_heads + head) * state_values;
        HWY_DYNAMIC_DISPATCH(delta_rows)
        (scan, in, *part.sequence, head, part.sequence->state_f32() + head * state_values, o, chunks);
      }
    }
  });
}

}  // namespace krait::kernels
#endif
