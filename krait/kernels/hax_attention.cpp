#include "krait/kernels/hax_attention.h"

#include <algorithm>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/hax_attention.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/hax_rows-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(hax_choose);
HWY_EXPORT(hax_read);

// So many multiply-adds make a task, some 5 µs. Blocks of columns are whole vectors of every target.
constexpr std::int64_t kTaskProducts = 65536;
constexpr std::int64_t kColumnGrain = 64;

struct Part {
  const SequenceRows* sequence;
  std::int64_t first, last;  // columns
};

// Kept between calls, so that a steady stream of steps does not allocate.
HaxPlan make_plan(std::int64_t rows, std::int64_t most) {
  thread_local AlignedBuffer buffer;
  const auto choices = static_cast<std::size_t>(rows) * sizeof(HaxChoice);
  const auto values = static_cast<std::size_t>(rows * most) * sizeof(float);
  if (buffer.size() < choices + 2 * values) buffer = AlignedBuffer(choices + 2 * values);
  std::byte* const at = buffer.data();
  return {.choices = reinterpret_cast<HaxChoice*>(at),
          .slots = reinterpret_cast<std::int32_t*>(at + choices),
          .weights = reinterpret_cast<float*>(at + choices + values)};
}

void check_shapes(const HaxAttention& hax, const HaxInputs& in, RowsOut y) {
  KRAIT_CHECK(hax.hashes >= 0 && hax.hashes <= HaxAttention::kMostHashes, "{} hashes", hax.hashes);
  KRAIT_CHECK(hax.recent >= 0 && hax.selected >= 0 && hax.recent + hax.selected <= HaxAttention::kMostKeys,
              "{} recent keys and {} selected ones", hax.recent, hax.selected);
  KRAIT_CHECK_EQ(y.columns, hax.value_width);
  KRAIT_CHECK_EQ(in.v.columns, hax.value_width);
  KRAIT_CHECK_EQ(in.v.rows, y.rows);
  std::vector<RowsIn> keys = {in.q, in.k};
  if (hax.recent > 0) keys.insert(keys.end(), {in.centred_q, in.centred_k});
  for (const RowsIn& rows : keys) {
    KRAIT_CHECK_EQ(rows.rows, y.rows);
    KRAIT_CHECK_EQ(rows.columns, hax.key_width);
  }
  if (hax.selected == 0) return;
  KRAIT_CHECK_EQ(in.scores.rows, y.rows);
  KRAIT_CHECK_EQ(in.scores.columns, 1);
}

}  // namespace

void hax_attention(ThreadPool& pool, const HaxAttention& hax, const HaxInputs& in,
                   std::span<const SequenceRows> sequences, RowsOut y) {
  check_shapes(hax, in, y);
  const std::int64_t most = hax.recent + hax.selected;
  std::vector<Part> parts;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= y.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, y.rows);
    if (sequence.rows == 0) continue;
    const std::int64_t fitting = kTaskProducts / std::max<std::int64_t>(1, sequence.rows * most);
    const std::int64_t columns = std::max(kColumnGrain, fitting / kColumnGrain * kColumnGrain);
    for (std::int64_t first = 0; first < hax.value_width; first += columns) {
      parts.push_back({&sequence, first, std::min(first + columns, hax.value_width)});
    }
  }
  const HaxPlan plan = make_plan(y.rows, most);
  pool.parallel_for(static_cast<std::int64_t>(sequences.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      HWY_DYNAMIC_DISPATCH(hax_choose)(hax, in, sequences[static_cast<std::size_t>(i)], plan);
    }
  });
  pool.parallel_for(static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Part& part = parts[static_cast<std::size_t>(i)];
      HWY_DYNAMIC_DISPATCH(hax_read)(hax, in.v, *part.sequence, plan, part.first, part.last, y);
    }
  });
}

}  // namespace krait::kernels
#endif
