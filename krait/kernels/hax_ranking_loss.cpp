#include "krait/kernels/hax_ranking_loss.h"

#include <algorithm>
#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/hax_ranking_loss.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/chosen_rows-inl.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// sum of sigmoid(q[t] . k) over rows [first, end) of q, a piece of them at a time.
float ranking_target(RowsIn q, const float* k, std::int64_t first, std::int64_t end) {
  constexpr std::int64_t kPiece = 64;
  HWY_ALIGN float products[kPiece];
  std::int32_t rows[kPiece];
  VecF32 sum = hn::Zero(F32());
  for (; first < end; first += kPiece) {
    const std::int64_t count = std::min(kPiece, end - first);
    for (std::int64_t i = 0; i < count; ++i) rows[i] = static_cast<std::int32_t>(first + i);
    multiply_chosen_rows(q, {rows, static_cast<std::size_t>(count)}, k, products);
    for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
      const VecF32 value = sigmoid_f32(load<decltype(whole)::value>(products + i, part));
      sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(F32(), part), value));
    });
  }
  return sum_lanes(sum);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(ranking_target);

std::size_t drawn_count(DrawnRows drawn) {
  std::size_t count = 0;
  for (const std::vector<std::int64_t>& rows : drawn) count += rows.size();
  return count;
}

void check_drawn(DrawnRows drawn, std::int64_t rows, std::size_t targets) {
  KRAIT_CHECK_EQ(drawn_count(drawn), targets);
  for (const std::vector<std::int64_t>& list : drawn) {
    for (const std::int64_t row : list) KRAIT_CHECK(row >= 0 && row < rows, "row {} of {}", row, rows);
  }
}

double pairs_of(DrawnRows drawn) {
  double pairs = 0.0;
  for (const std::vector<std::int64_t>& rows : drawn) pairs += static_cast<double>(rows.size() * rows.size());
  return pairs;
}

double wanted(float left, float right) { return left > right ? 1.0 : left == right ? 0.5 : 0.0; }

// work(row, other row, y of the pair)
template <class Work>
void for_pairs(DrawnRows drawn, std::span<const float> targets, Work&& work) {
  for (const std::vector<std::int64_t>& rows : drawn) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t j = 0; j < rows.size(); ++j) work(rows[i], rows[j], wanted(targets[i], targets[j]));
    }
    targets = targets.subspan(rows.size());
  }
}

}  // namespace

void hax_ranking_targets(ThreadPool& pool, RowsIn q, RowsIn k, std::span<const SequenceRows> sequences, DrawnRows drawn,
                         std::span<float> targets) {
  KRAIT_CHECK_EQ(sequences.size(), drawn.size());
  KRAIT_CHECK(q.rows == k.rows && q.columns == k.columns, "queries of {} x {}, keys of {} x {}", q.rows, q.columns,
              k.rows, k.columns);
  check_drawn(drawn, k.rows, targets.size());
  struct Token {
    std::int64_t row, end;
  };
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const SequenceRows& sequence = sequences[i];
    for (const std::int64_t row : drawn[i]) {
      KRAIT_CHECK(row >= sequence.first_row && row < sequence.first_row + sequence.rows,
                  "row {} of a sequence of rows {} + {}", row, sequence.first_row, sequence.rows);
      tokens.push_back({row, sequence.first_row + sequence.rows});
    }
  }
  pool.parallel_for(static_cast<std::int64_t>(tokens.size()), 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto [row, last] = tokens[static_cast<std::size_t>(i)];
      targets[static_cast<std::size_t>(i)] = HWY_DYNAMIC_DISPATCH(ranking_target)(q, k.row(row), row, last);
    }
  });
}

template <class T>
double hax_ranking_loss(Rows<const T> scores, DrawnRows drawn, std::span<const float> targets) {
  KRAIT_CHECK_EQ(scores.columns, 1);
  check_drawn(drawn, scores.rows, targets.size());
  double sum = 0.0;
  for_pairs(drawn, targets, [&](std::int64_t i, std::int64_t j, double y) {
    const double x = double{*scores.row(i)} - double{*scores.row(j)};
    sum += std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))) - x * y;
  });
  const double pairs = pairs_of(drawn);
  return pairs > 0.0 ? sum / pairs : 0.0;
}

template <class T>
void hax_ranking_loss_backward(Rows<const T> scores, std::span<const SequenceRows> sequences, DrawnRows drawn,
                               std::span<const float> targets, double upstream, Rows<T> scores_gradient) {
  KRAIT_CHECK_EQ(scores.columns, 1);
  KRAIT_CHECK(scores_gradient.rows == scores.rows && scores_gradient.columns == 1,
              "a gradient of {} x {} for {} scores", scores_gradient.rows, scores_gradient.columns, scores.rows);
  check_drawn(drawn, scores.rows, targets.size());
  for (const SequenceRows& sequence : sequences) {
    for (std::int64_t row = 0; row < sequence.rows; ++row) *scores_gradient.row(sequence.first_row + row) = T(0);
  }
  // The pair (j, i) says the same as (i, j): twice the gradient of its first score.
  std::vector<double> sums(static_cast<std::size_t>(scores.rows));
  for_pairs(drawn, targets, [&](std::int64_t i, std::int64_t j, double y) {
    const double x = double{*scores.row(i)} - double{*scores.row(j)};
    sums[static_cast<std::size_t>(i)] += 1.0 / (1.0 + std::exp(-x)) - y;
  });
  const double factor = 2.0 * upstream / std::max(1.0, pairs_of(drawn));
  for (const std::vector<std::int64_t>& rows : drawn) {
    for (const std::int64_t row : rows) {
      *scores_gradient.row(row) = static_cast<T>(factor * sums[static_cast<std::size_t>(row)]);
    }
  }
}

template double hax_ranking_loss(Rows<const float>, DrawnRows, std::span<const float>);
template double hax_ranking_loss(Rows<const double>, DrawnRows, std::span<const float>);
template void hax_ranking_loss_backward(Rows<const float>, std::span<const SequenceRows>, DrawnRows,
                                        std::span<const float>, double, Rows<float>);
template void hax_ranking_loss_backward(Rows<const double>, std::span<const SequenceRows>, DrawnRows,
                                        std::span<const float>, double, Rows<double>);

}  // namespace krait::kernels
#endif
