#include "krait/kernels/running_mean.h"

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/running_mean.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// One row; mean may be null.
void running_mean_row(const float* x, float count, float* state, float* centred, float* mean, std::int64_t columns) {
  const VecF32 tokens = hn::Set(F32(), count);
  for_vectors(columns, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 before = load<kWhole>(state + i, part);
    const VecF32 distance = hn::Sub(load<kWhole>(x + i, part), before);
    const VecF32 after = hn::Add(before, hn::Div(distance, tokens));
    store<kWhole>(after, state + i, part);
    store<kWhole>(distance, centred + i, part);
    if (mean != nullptr) store<kWhole>(after, mean + i, part);
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(running_mean_row);

}  // namespace

void running_mean(ThreadPool& pool, RowsIn x, std::span<const std::int64_t> positions,
                  std::span<const SequenceRows> sequences, RowsOut centred, RowsOut mean) {
  KRAIT_CHECK_EQ(centred.rows, x.rows);
  KRAIT_CHECK_EQ(centred.columns, x.columns);
  KRAIT_CHECK_EQ(static_cast<std::int64_t>(positions.size()), x.rows);
  if (!mean.empty()) {
    KRAIT_CHECK_EQ(mean.rows, x.rows);
    KRAIT_CHECK_EQ(mean.columns, x.columns);
  }
  pool.parallel_for(static_cast<std::int64_t>(sequences.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const SequenceRows& sequence = sequences[static_cast<std::size_t>(i)];
      for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
        const auto count = static_cast<float>(positions[static_cast<std::size_t>(row)] + 1);
        HWY_DYNAMIC_DISPATCH(running_mean_row)
        (x.row(row), count, sequence.state_f32(), centred.row(row), mean.empty() ? nullptr : mean.row(row), x.columns);
      }
    }
  });
}

}  // namespace krait::kernels
#endif
