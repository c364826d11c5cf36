#include "krait/kernels/token_shift.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/row_grain.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/token_shift.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

template <bool kWhole>
HWY_INLINE void shift_at(const float* x, const float* before, const float* mix, float* y, std::size_t count) {
  const VecF32 now = load<kWhole>(x, count);
  store<kWhole>(hn::MulAdd(hn::Sub(load<kWhole>(before, count), now), load<kWhole>(mix, count), now), y, count);
}

void shift_row(const float* x, const float* before, const float* mix, float* y, std::size_t count) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) shift_at<true>(x + i, before + i, mix + i, y + i, kLanes);
  if (i < count) shift_at<false>(x + i, before + i, mix + i, y + i, count - i);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(shift_row);

}  // namespace

void token_shift(ThreadPool& pool, RowsIn x, std::span<const SequenceRows> sequences,
                 std::span<const TokenShift> shifts) {
  for (const TokenShift& shift : shifts) {
    KRAIT_CHECK_EQ(shift.y.rows, x.rows);
    KRAIT_CHECK_EQ(shift.y.columns, x.columns);
  }
  // The row before each row; null where no sequence owns it.
  std::vector<const float*> before(static_cast<std::size_t>(x.rows), nullptr);
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= x.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, x.rows);
    for (std::int64_t i = 0; i < sequence.rows; ++i) {
      const std::int64_t row = sequence.first_row + i;
      before[static_cast<std::size_t>(row)] = i == 0 ? sequence.state_f32() : x.row(row - 1);
    }
  }
  const std::int64_t columns = x.columns * static_cast<std::int64_t>(shifts.size());
  pool.parallel_for(x.rows, rows_per_task(columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* previous = before[static_cast<std::size_t>(row)];
      if (previous == nullptr) continue;
      for (const TokenShift& shift : shifts) {
        HWY_DYNAMIC_DISPATCH(shift_row)
        (x.row(row), previous, shift.mix, shift.y.row(row), static_cast<std::size_t>(x.columns));
      }
    }
  });
  // Only now: first rows read the states.
  for (const SequenceRows& sequence : sequences) {
    if (sequence.rows == 0) continue;
    std::copy_n(x.row(sequence.first_row + sequence.rows - 1), x.columns, sequence.state_f32());
  }
}

}  // namespace krait::kernels
#endif
