#include "krait/kernels/hax_sequence_backward.h"

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/hax_sequence_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/hax_sequence_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/hax_sequence_backward-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(hax_backward_rows);
HWY_EXPORT(hax_backward_tokens);

void check_gradient(RowsOut gradient, RowsIn of) {
  KRAIT_CHECK(gradient.rows == of.rows && gradient.columns == of.columns, "a gradient of {} x {} for {} x {}",
              gradient.rows, gradient.columns, of.rows, of.columns);
}

// The readers of every token, in the order of their rows.
class Readers {
 public:
  Readers(const HaxReads<float>& in, std::span<const SequenceRows> sequences, const HaxWeights& of)
      : starts_(static_cast<std::size_t>(in.tokens.rows) + 1) {
    const std::int64_t most = in.tokens.columns - 1;
    const auto for_entries = [&](auto&& work) {
      for (const SequenceRows& sequence : sequences) {
        for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
          const std::int32_t* const list = in.tokens.row(row);
          for (std::int32_t i = 0; i < list[0]; ++i) work(row, list[i + 1], row * most + i);
        }
      }
    };
    for_entries(
        [&](std::int64_t, std::int32_t token, std::int64_t) { ++starts_[static_cast<std::size_t>(token) + 1]; });
    for (std::size_t i = 1; i < starts_.size(); ++i) starts_[i] += starts_[i - 1];
    const auto count = static_cast<std::size_t>(starts_.back());
    rows_.resize(count);
    weights_.resize(count);
    score_gradients_.resize(count);
    std::vector<std::int64_t> next(starts_.begin(), starts_.end() - 1);
    for_entries([&](std::int64_t row, std::int32_t token, std::int64_t entry) {
      const auto at = static_cast<std::size_t>(next[static_cast<std::size_t>(token)]++);
      rows_[at] = static_cast<std::int32_t>(row);
      weights_[at] = of.weights[entry];
      score_gradients_[at] = of.score_gradients[entry];
    });
  }
  HaxReaders view() const { return {starts_.data(), rows_.data(), weights_.data(), score_gradients_.data()}; }

 private:
  std::vector<std::int64_t> starts_;
  std::vector<std::int32_t> rows_;
  std::vector<float> weights_, score_gradients_;
};

}  // namespace

void hax_sequence_backward(ThreadPool& pool, const HaxReads<float>& in, std::span<const SequenceRows> sequences,
                           RowsIn y_gradient, const HaxSequenceGradients<float>& gradients) {
  check_hax_reads(in, sequences, y_gradient.rows);
  KRAIT_CHECK_EQ(y_gradient.columns, in.v.columns);
  check_gradient(gradients.q, in.q);
  check_gradient(gradients.k, in.k);
  check_gradient(gradients.v, in.v);
  const std::int64_t width = in.v.columns;
  const std::vector<HaxRun> runs = hax_runs(sequences);
  const auto count = static_cast<std::int64_t>(runs.size());
  const auto entries = static_cast<std::size_t>(in.tokens.rows * (in.tokens.columns - 1));
  AlignedBuffer buffer(2 * entries * sizeof(float));
  const HaxWeights weights = {buffer.as<float>().data(), buffer.as<float>().data() + entries};
  pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      HWY_DYNAMIC_DISPATCH(hax_backward_rows)(in, runs[static_cast<std::size_t>(i)], y_gradient, weights, gradients.q);
    }
  });
  const Readers readers(in, sequences, weights);
  AlignedBuffer scale_sums(static_cast<std::size_t>(count * width) * sizeof(float));  // [runs, E]
  float* const sums = scale_sums.as<float>().data();
  pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      HWY_DYNAMIC_DISPATCH(hax_backward_tokens)
      (in, runs[static_cast<std::size_t>(i)], readers.view(), y_gradient, gradients.k, gradients.v, sums + i * width);
    }
  });
  if (gradients.output_scale == nullptr) return;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t e = 0; e < width; ++e) gradients.output_scale[e] += sums[i * width + e];
  }
}

}  // namespace krait::kernels
#endif
