// Backward of HAX over whole sequences in two halves: rows, which find their weights and what these get, and tokens,
// which collect from the rows that read them.
#if defined(KRAIT_KERNELS_SIMD_HAX_SEQUENCE_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_HAX_SEQUENCE_BACKWARD_INL_H_
#undef KRAIT_KERNELS_SIMD_HAX_SEQUENCE_BACKWARD_INL_H_
#else
#define KRAIT_KERNELS_SIMD_HAX_SEQUENCE_BACKWARD_INL_H_
#endif

#include "krait/kernels/hax_sequence_task.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/chosen_rows-inl.h"
#include "krait/kernels/simd/hax_query-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Weights and gradients of scores of a run, and dq.
void hax_backward_rows(const HaxReads<float>& in, const HaxRun& run, RowsIn y_gradient, const HaxWeights& to,
                       RowsOut q_gradient) {
  const std::int64_t width = in.v.columns, most = in.tokens.columns - 1;
  float* const scaled = thread_scratch(static_cast<std::size_t>(width)).data();  // E * dy
  for (std::int64_t row = run.first; row < run.first + run.rows; ++row) {
    const std::int32_t* const list = in.tokens.row(row);
    const std::span<const std::int32_t> tokens(list + 1, static_cast<std::size_t>(list[0]));
    const float* const upstream = y_gradient.row(row);
    float *const weights = to.weights + row * most, *const gradients = to.score_gradients + row * most;
    if (!tokens.empty()) {
      multiply_chosen_rows(in.k, tokens, in.q.row(row), weights);
      softmax(weights, list[0]);
      for_vectors(width, [&](auto whole, std::int64_t at, std::size_t part) {
        constexpr bool kWhole = decltype(whole)::value;
        store<kWhole>(hn::Mul(load<kWhole>(in.output_scale + at, part), load<kWhole>(upstream + at, part)), scaled + at,
                      part);
      });
      multiply_chosen_rows(in.v, tokens, scaled, gradients);
      float mean = 0.0F;
      for (std::int32_t i = 0; i < list[0]; ++i) mean += weights[i] * gradients[i];
      for (std::int32_t i = 0; i < list[0]; ++i) gradients[i] = weights[i] * (gradients[i] - mean);
    }
    sum_chosen_rows(in.k, tokens, gradients, [&](auto whole, std::int64_t at, std::size_t part, VecF32 sum) {
      store<decltype(whole)::value>(sum, q_gradient.row(row) + at, part);
    });
  }
}

// dk and dv of a run of tokens; adds v * u to `scale_gradient` [E].
void hax_backward_tokens(const HaxReads<float>& in, const HaxRun& run, const HaxReaders& readers, RowsIn y_gradient,
                         RowsOut k_gradient, RowsOut v_gradient, float* scale_gradient) {
  for (std::int64_t token = run.first; token < run.first + run.rows; ++token) {
    const std::int64_t first = readers.starts[token];
    const std::span<const std::int32_t> rows(readers.rows + first,
                                             static_cast<std::size_t>(readers.starts[token + 1] - first));
    sum_chosen_rows(in.q, rows, readers.score_gradients + first,
                    [&](auto whole, std::int64_t at, std::size_t part, VecF32 sum) {
                      store<decltype(whole)::value>(sum, k_gradient.row(token) + at, part);
                    });
    sum_chosen_rows(
        y_gradient, rows, readers.weights + first, [&](auto whole, std::int64_t at, std::size_t part, VecF32 sum) {
          constexpr bool kWhole = decltype(whole)::value;
          const VecF32 scale = load<kWhole>(in.output_scale + at, part);
          store<kWhole>(hn::Mul(scale, sum), v_gradient.row(token) + at, part);
          const VecF32 before = load<kWhole>(scale_gradient + at, part);
          store<kWhole>(hn::MulAdd(load<kWhole>(in.v.row(token) + at, part), sum, before), scale_gradient + at, part);
        });
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
