#include "krait/kernels/scan_rwkv7.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_rwkv7.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/rwkv7_rows-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(rwkv7_rows);

// So many values of state times rows make a task, some 5 µs.
constexpr std::int64_t kTaskValues = 32768;

// The heads of one sequence that a task works on.
struct Part {
  const SequenceRows* sequence;
  std::int64_t first_head, heads;
};

}  // namespace

void rwkv7_scan(ThreadPool& pool, const Rwkv7Scan& scan, const Rwkv7ScanInputs& in,
                std::span<const SequenceRows> sequences, RowsOut y) {
  for (const RowsIn& rows : {in.r, in.w, in.k, in.v, in.kappa, in.b}) {
    KRAIT_CHECK_EQ(rows.rows, y.rows);
    KRAIT_CHECK_EQ(rows.columns, scan.heads * scan.head_width);
  }
  KRAIT_CHECK_EQ(y.columns, scan.heads * scan.head_width);
  const std::int64_t state_values = scan.head_width * scan.head_width;
  std::vector<Part> parts;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= y.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, y.rows);
    if (sequence.rows == 0) continue;
    const std::int64_t step =
        std::max<std::int64_t>(1, kTaskValues / std::max<std::int64_t>(1, sequence.rows * state_values));
    for (std::int64_t head = 0; head < scan.heads; head += step) {
      parts.push_back({&sequence, head, std::min(step, scan.heads - head)});
    }
  }
  pool.parallel_for(static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Part& part = parts[static_cast<std::size_t>(i)];
      for (std::int64_t head = part.first_head; head < part.first_head + part.heads; ++head) {
        HWY_DYNAMIC_DISPATCH(rwkv7_rows)
        (scan, in, *part.sequence, head, part.sequence->state_f32() + head * state_values, y);
      }
    }
  });
}

}  // namespace krait::kernels
#endif
