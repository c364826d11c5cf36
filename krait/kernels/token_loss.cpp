#include "krait/kernels/token_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/distribution.h"
#include "krait/kernels/row_grain.h"

namespace krait::kernels {
namespace {

constexpr std::int64_t kLeastRows = 16;

// Rows of a stretch, whole sixteens: short ones would read and write all of the head's gradient more often.
std::int64_t stretch_rows(const TokenLoss& loss) {
  return std::max(kLeastRows, loss.most_logits / std::max<std::int64_t>(1, loss.vocabulary) / 16 * 16);
}

struct RowResult {
  double loss = 0.0;
  double z_loss = 0.0;
  double smoothing_loss = 0.0;
};

// Turns a row of products into dl times logit_scale, in place.
RowResult differentiate_row(const TokenLoss& loss, std::int32_t target, float weight, std::span<float> logits) {
  if (loss.logit_scale != 1.0F) {
    for (float& l : logits) l *= loss.logit_scale;
  }
  const double of_target = logits[static_cast<std::size_t>(target)];
  const double words = static_cast<double>(logits.size());
  // Only where it is wanted: a pass more over the row.
  const double mean = loss.smoothing == 0.0F ? 0.0 : std::accumulate(logits.begin(), logits.end(), 0.0) / words;
  const double log_sum = softmax(logits, 1.0F, logits);
  const RowResult result{.loss = log_sum - of_target,
                         .z_loss = double{loss.z_factor} * log_sum * log_sum,
                         .smoothing_loss = double{loss.smoothing} * (of_target - mean)};
  if (!std::isfinite(result.loss)) {
    std::fill(logits.begin(), logits.end(), std::numeric_limits<float>::quiet_NaN());
    return result;
  }
  const float factor = weight * loss.logit_scale;
  const float slope = factor * static_cast<float>(1.0 + 2.0 * double{loss.z_factor} * log_sum);
  const float spread = factor * static_cast<float>(double{loss.smoothing} / words);
  for (float& l : logits) l = l * slope - spread;
  logits[static_cast<std::size_t>(target)] -= factor * (1.0F - loss.smoothing);
  return result;
}

void zero_rows(ThreadPool& pool, RowsOut rows) {
  pool.parallel_for(rows.rows, rows_per_task(rows.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) std::fill_n(rows.row(row), rows.columns, 0.0F);
  });
}

void check_arguments(const TokenLoss& loss, RowsIn hidden, std::span<const std::int32_t> targets,
                     std::span<const float> row_weights, const TokenLossGradients& gradients) {
  KRAIT_CHECK(loss.vocabulary > 0 && loss.vocabulary <= loss.head.rows, "a vocabulary of {}, a head of {} rows",
              loss.vocabulary, loss.head.rows);
  KRAIT_CHECK_EQ(loss.head.columns, hidden.columns);
  KRAIT_CHECK_EQ(static_cast<std::int64_t>(targets.size()), hidden.rows);
  KRAIT_CHECK(row_weights.empty() || row_weights.size() == targets.size(), "{} weights of {} rows", row_weights.size(),
              targets.size());
  KRAIT_CHECK(
      gradients.hidden.empty() || (gradients.hidden.rows == hidden.rows && gradients.hidden.columns == hidden.columns),
      "hidden {} x {}, its gradient {} x {}", hidden.rows, hidden.columns, gradients.hidden.rows,
      gradients.hidden.columns);
  KRAIT_CHECK(
      gradients.head.empty() || (gradients.head.rows >= loss.vocabulary && gradients.head.columns == loss.head.columns),
      "a vocabulary of {} x {}, the head's gradient {} x {}", loss.vocabulary, loss.head.columns, gradients.head.rows,
      gradients.head.columns);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    KRAIT_CHECK(targets[i] == kNoTarget || (targets[i] >= 0 && targets[i] < loss.vocabulary),
                "target {} of row {}, a vocabulary of {}", targets[i], i, loss.vocabulary);
  }
}

}  // namespace

TokenLossSums token_loss(ThreadPool& pool, const TokenLoss& loss, RowsIn hidden, std::span<const std::int32_t> targets,
                         std::span<const float> row_weights, float* losses, const TokenLossGradients& gradients) {
  check_arguments(loss, hidden, targets, row_weights, gradients);
  if (!gradients.hidden.empty()) zero_rows(pool, gradients.hidden);
  if (losses != nullptr) std::fill_n(losses, hidden.rows, 0.0F);
  std::vector<std::int64_t> counted;
  for (std::int64_t row = 0; row < hidden.rows; ++row) {
    if (targets[static_cast<std::size_t>(row)] != kNoTarget) counted.push_back(row);
  }
  TokenLossSums sums;
  sums.rows = static_cast<std::int64_t>(counted.size());
  if (counted.empty()) return sums;
  const RowsIn head = loss.head.slice_rows(0, loss.vocabulary);
  const std::int64_t most = std::min(stretch_rows(loss), sums.rows), width = hidden.columns;
  const auto floats = [](std::int64_t rows, std::int64_t columns) {
    return AlignedBuffer(static_cast<std::size_t>(rows * columns) * sizeof(float));
  };
  AlignedBuffer logit_rows = floats(most, loss.vocabulary), input_rows = floats(most, width);
  AlignedBuffer gradient_rows = gradients.hidden.empty() ? AlignedBuffer() : floats(most, width);
  std::vector<RowResult> results(static_cast<std::size_t>(most));
  for (std::int64_t first = 0; first < sums.rows; first += most) {
    const std::int64_t count = std::min(most, sums.rows - first);
    const std::span<const std::int64_t> rows =
        std::span(counted).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    const auto weight_of = [&](std::int64_t row) {
      return row_weights.empty() ? 1.0F : row_weights[static_cast<std::size_t>(row)];
    };
    const RowsOut input(input_rows.as<float>().data(), count, width);
    const RowsOut logits(logit_rows.as<float>().data(), count, loss.vocabulary);
    for (std::int64_t i = 0; i < count; ++i) {
      std::copy_n(hidden.row(rows[static_cast<std::size_t>(i)]), width, input.row(i));
    }
    dense_product(pool, {.b_transposed = true}, input, head, logits, loss.precision);
    pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t row = rows[static_cast<std::size_t>(i)];
        results[static_cast<std::size_t>(i)] =
            differentiate_row(loss, targets[static_cast<std::size_t>(row)], weight_of(row),
                              {logits.row(i), static_cast<std::size_t>(loss.vocabulary)});
      }
    });
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = rows[static_cast<std::size_t>(i)];
      const RowResult& result = results[static_cast<std::size_t>(i)];
      const double weight = weight_of(row);
      sums.loss += weight * result.loss;
      sums.z_loss += weight * result.z_loss;
      sums.smoothing_loss += weight * result.smoothing_loss;
      sums.weight += weight;
      if (losses != nullptr) losses[row] = static_cast<float>(result.loss);
    }
    if (!gradients.head.empty()) {
      dense_product(pool, {.a_transposed = true, .add = true}, logits, input,
                    gradients.head.slice_rows(0, loss.vocabulary), loss.precision);
    }
    if (gradients.hidden.empty()) continue;
    const RowsOut gradient(gradient_rows.as<float>().data(), count, width);
    dense_product(pool, {}, logits, head, gradient, loss.precision);
    for (std::int64_t i = 0; i < count; ++i) {
      std::copy_n(gradient.row(i), width, gradients.hidden.row(rows[static_cast<std::size_t>(i)]));
    }
  }
  return sums;
}

}  // namespace krait::kernels
