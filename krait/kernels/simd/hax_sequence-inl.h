// HAX over whole sequences: buckets of rows, and runs of rows that read what was chosen for them.
#if defined(KRAIT_KERNELS_SIMD_HAX_SEQUENCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_HAX_SEQUENCE_INL_H_
#undef KRAIT_KERNELS_SIMD_HAX_SEQUENCE_INL_H_
#else
#define KRAIT_KERNELS_SIMD_HAX_SEQUENCE_INL_H_
#endif

#include "krait/kernels/hax_sequence_task.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/chosen_rows-inl.h"
#include "krait/kernels/simd/hax_query-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

void hax_buckets(const HaxAttention& hax, RowsIn centred, const HaxRun& run, std::int32_t* buckets) {
  for (std::int64_t row = run.first; row < run.first + run.rows; ++row) {
    buckets[row] = hax_bucket(hax, centred.row(row));
  }
}

void hax_attend_run(const HaxReads<float>& in, const HaxRun& run, RowsOut y) {
  float* const weights = thread_scratch(static_cast<std::size_t>(in.tokens.columns)).data();
  for (std::int64_t row = run.first; row < run.first + run.rows; ++row) {
    const std::int32_t* const list = in.tokens.row(row);
    const std::span<const std::int32_t> tokens(list + 1, static_cast<std::size_t>(list[0]));
    if (tokens.empty()) continue;
    multiply_chosen_rows(in.k, tokens, in.q.row(row), weights);
    softmax(weights, list[0]);
    float* const to = y.row(row);
    sum_chosen_rows(in.v, tokens, weights, [&](auto whole, std::int64_t at, std::size_t part, VecF32 sum) {
      constexpr bool kWhole = decltype(whole)::value;
      const VecF32 scale = load<kWhole>(in.output_scale + at, part);
      store<kWhole>(hn::MulAdd(scale, sum, load<kWhole>(to + at, part)), to + at, part);
    });
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
