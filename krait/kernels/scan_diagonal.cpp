#include "krait/kernels/scan_diagonal.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/scan_diagonal_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_diagonal.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/complex_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

template <std::size_t kCount, bool kWhole>
HWY_INLINE void scan_rows(const DiagonalScan& scan, RowsIn u, const SequenceRows& sequence, RowsOut h,
                          const ComplexRow<kCount, kWhole>& at) {
  ComplexF32 state[kCount], decay[kCount], input[kCount];
  for (std::size_t i = 0; i < kCount; ++i) state[i] = decay[i] = {hn::Zero(F32()), hn::Zero(F32())};
  if (sequence.state != nullptr) at.load_to(sequence.state_f32(), state);
  if (scan.a != nullptr) at.load_to(scan.a, decay);
  for (std::int64_t t = sequence.first_row; t < sequence.first_row + sequence.rows; ++t) {
    if (scan.a == nullptr) at.load_to(scan.a_rows.row(t), decay);
    at.load_to(u.row(t), input);
    for (std::size_t i = 0; i < kCount; ++i) state[i] = multiply_add(decay[i], state[i], input[i]);
    at.store_from(state, h.row(t));
  }
  if (sequence.state != nullptr) at.store_from(state, sequence.state_f32());
}

// States [begin, end) of one sequence.
void diagonal_scan_task(const DiagonalScan& scan, RowsIn u, const SequenceRows& sequence, std::int64_t begin,
                        std::int64_t end, RowsOut h) {
  for_complex_rows(scan.states, begin, end, [&](const auto& at) HWY_ATTR { scan_rows(scan, u, sequence, h, at); });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(diagonal_scan_task);

}  // namespace

void diagonal_scan(ThreadPool& pool, const DiagonalScan& scan, RowsIn u, std::span<const SequenceRows> sequences,
                   RowsOut h) {
  if (scan.states == 0) return;
  check_diagonal_scan(scan, sequences, h.rows);
  KRAIT_CHECK_EQ(u.columns, 2 * scan.states);
  KRAIT_CHECK_EQ(h.columns, 2 * scan.states);
  const std::int64_t blocks = diagonal_blocks(scan.states);
  pool.parallel_for(static_cast<std::int64_t>(sequences.size()) * blocks, 1,
                    [&](std::int64_t first, std::int64_t last) {
                      for (std::int64_t i = first; i < last; ++i) {
                        const std::int64_t begin = i % blocks * kDiagonalBlock;
                        HWY_DYNAMIC_DISPATCH(diagonal_scan_task)
                        (scan, u, sequences[static_cast<std::size_t>(i / blocks)], begin,
                         std::min(begin + kDiagonalBlock, scan.states), h);
                      }
                    });
}

}  // namespace krait::kernels
#endif
