#include "krait/kernels/scan_diagonal_backward.h"

#include <algorithm>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/scan_diagonal_task.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_SCAN_DIAGONAL_BACKWARD_CPP_
#define KRAIT_KERNELS_SCAN_DIAGONAL_BACKWARD_CPP_
namespace krait::kernels {
namespace {

// A constant a's gradient is summed over so many rows first: two short sums round less than a long one.
constexpr std::int64_t kSumRows = 32;

struct DiagonalBackward {
  const DiagonalScan* scan;
  RowsIn h, dh;
  SequenceRows sequence;
  SequenceGradients state;
  const DiagonalScanGradients* gradients;
  float* by_decay;  // [2 N] of this sequence, written; or null
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_diagonal_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/complex_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

template <std::size_t kCount, bool kWhole>
HWY_INLINE void scan_back(const DiagonalBackward& task, const ComplexRow<kCount, kWhole>& at) {
  const DiagonalScan& scan = *task.scan;
  const std::int64_t first = task.sequence.first_row;
  const ComplexF32 zero = {hn::Zero(F32()), hn::Zero(F32())};
  // `decay` leads to the row behind; behind the last one stands the final state's gradient itself.
  ComplexF32 constant[kCount], decay[kCount], g[kCount], up[kCount], before[kCount], sum[kCount], total[kCount];
  for (std::size_t i = 0; i < kCount; ++i) {
    constant[i] = g[i] = before[i] = sum[i] = total[i] = zero;
    decay[i] = set_complex(1.0F, 0.0F);
  }
  if (task.state.final_state != nullptr) at.load_to(task.state.final_state, g);
  if (scan.a != nullptr) at.load_to(scan.a, constant);
  for (std::int64_t t = first + task.sequence.rows - 1; t >= first; --t) {
    at.load_to(task.dh.row(t), up);
    for (std::size_t i = 0; i < kCount; ++i) g[i] = conjugate_multiply_add(decay[i], g[i], up[i]);
    at.store_from(g, task.gradients->u.row(t));
    if (t > first) {
      at.load_to(task.h.row(t - 1), before);
    } else if (task.sequence.state != nullptr) {
      at.load_to(task.sequence.state_f32(), before);
    } else {
      for (ComplexF32& v : before) v = zero;
    }
    if (!task.gradients->a_rows.empty()) {
      ComplexF32 row[kCount];
      for (std::size_t i = 0; i < kCount; ++i) row[i] = conjugate_times(before[i], g[i]);
      at.store_from(row, task.gradients->a_rows.row(t));
    }
    if (task.by_decay != nullptr) {
      for (std::size_t i = 0; i < kCount; ++i) sum[i] = conjugate_multiply_add(before[i], g[i], sum[i]);
      if ((t - first) % kSumRows == 0) {
        for (std::size_t i = 0; i < kCount; ++i) total[i] = total[i] + sum[i], sum[i] = zero;
      }
    }
    if (scan.a == nullptr) at.load_to(scan.a_rows.row(t), constant);
    for (std::size_t i = 0; i < kCount; ++i) decay[i] = constant[i];
  }
  if (task.by_decay != nullptr) at.store_from(total, task.by_decay);
  if (task.state.initial_state == nullptr) return;
  for (std::size_t i = 0; i < kCount; ++i) g[i] = conjugate_times(decay[i], g[i]);
  at.store_from(g, task.state.initial_state);
}

void diagonal_scan_backward_task(const DiagonalBackward& task, std::int64_t begin, std::int64_t end) {
  for_complex_rows(task.scan->states, begin, end, [&](const auto& at) HWY_ATTR { scan_back(task, at); });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(diagonal_scan_backward_task);

}  // namespace

void diagonal_scan_backward(ThreadPool& pool, const DiagonalScan& scan, RowsIn h, RowsIn dh,
                            std::span<const SequenceRows> sequences, std::span<const SequenceGradients> states,
                            const DiagonalScanGradients& gradients) {
  if (scan.states == 0) return;
  check_diagonal_scan(scan, sequences, h.rows);
  KRAIT_CHECK_EQ(h.columns, 2 * scan.states);
  KRAIT_CHECK_EQ(dh.columns, 2 * scan.states);
  KRAIT_CHECK_EQ(gradients.u.columns, 2 * scan.states);
  KRAIT_CHECK(states.empty() || states.size() == sequences.size(), "{} states' gradients for {} sequences",
              states.size(), sequences.size());
  KRAIT_CHECK(gradients.a == nullptr || scan.a != nullptr, "a gradient of a constant a where a is of each row");
  KRAIT_CHECK(gradients.a_rows.empty() || !scan.a_rows.empty(), "gradients of rows of a where a is constant");
  const std::int64_t blocks = diagonal_blocks(scan.states), width = 2 * scan.states;
  const auto count = static_cast<std::int64_t>(sequences.size());
  AlignedBuffer partial(gradients.a == nullptr ? 0 : static_cast<std::size_t>(count * width) * sizeof(float));
  const std::span<float> sums = partial.as<float>();
  pool.parallel_for(count * blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const auto which = static_cast<std::size_t>(i / blocks);
      const DiagonalBackward task{.scan = &scan,
                                  .h = h,
                                  .dh = dh,
                                  .sequence = sequences[which],
                                  .state = states.empty() ? SequenceGradients() : states[which],
                                  .gradients = &gradients,
                                  .by_decay = gradients.a == nullptr ? nullptr : sums.data() + i / blocks * width};
      const std::int64_t begin = i % blocks * kDiagonalBlock;
      HWY_DYNAMIC_DISPATCH(diagonal_scan_backward_task)(task, begin, std::min(begin + kDiagonalBlock, scan.states));
    }
  });
  for (std::int64_t i = 0; i < count && gradients.a != nullptr; ++i) {
    for (std::int64_t n = 0; n < width; ++n) gradients.a[n] += sums[static_cast<std::size_t>(i * width + n)];
  }
}

}  // namespace krait::kernels
#endif
