#include "krait/kernels/reference/token_loss.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace krait::kernels::reference {

TokenLossSums token_loss(const TokenLossOf<double>& loss, Rows<const double> hidden,
                         std::span<const std::int32_t> targets, std::span<const double> row_weights, double* losses,
                         const TokenLossGradientsOf<double>& gradients) {
  const std::int64_t width = hidden.columns;
  std::vector<double> logits(static_cast<std::size_t>(loss.vocabulary));
  TokenLossSums sums;
  for (std::int64_t row = 0; row < hidden.rows; ++row) {
    const std::int32_t target = targets[static_cast<std::size_t>(row)];
    if (losses != nullptr) losses[row] = 0.0;
    if (!gradients.hidden.empty()) std::fill_n(gradients.hidden.row(row), width, 0.0);
    if (target == kNoTarget) continue;
    double largest = -INFINITY, sum = 0.0, mean = 0.0;
    for (std::int64_t v = 0; v < loss.vocabulary; ++v) {
      double product = 0.0;
      for (std::int64_t i = 0; i < width; ++i) product += hidden.row(row)[i] * loss.head.row(v)[i];
      logits[static_cast<std::size_t>(v)] = loss.logit_scale * product;
      largest = std::max(largest, loss.logit_scale * product);
    }
    for (const double l : logits) {
      sum += std::exp(l - largest);
      mean += l / static_cast<double>(loss.vocabulary);
    }
    const double log_sum = largest + std::log(sum), value = log_sum - logits[static_cast<std::size_t>(target)];
    const double weight = row_weights.empty() ? 1.0 : row_weights[static_cast<std::size_t>(row)];
    if (losses != nullptr) losses[row] = value;
    sums.loss += weight * value;
    sums.z_loss += weight * loss.z_factor * log_sum * log_sum;
    sums.smoothing_loss += weight * loss.smoothing * (logits[static_cast<std::size_t>(target)] - mean);
    sums.weight += weight;
    sums.rows++;
    for (std::int64_t v = 0; v < loss.vocabulary; ++v) {
      const double p = std::exp(logits[static_cast<std::size_t>(v)] - log_sum);
      const double wanted =
          loss.smoothing / static_cast<double>(loss.vocabulary) + (v == target) * (1.0 - loss.smoothing);
      const double slope = p * (1.0 + 2.0 * loss.z_factor * log_sum) - wanted;
      for (std::int64_t i = 0; i < width; ++i) {
        const double factor = weight * loss.logit_scale * slope;
        if (!gradients.hidden.empty()) gradients.hidden.row(row)[i] += factor * loss.head.row(v)[i];
        if (!gradients.head.empty()) gradients.head.row(v)[i] += factor * hidden.row(row)[i];
      }
    }
  }
  return sums;
}

void embed(Rows<const double> table, const std::int32_t* ids, Rows<double> y) {
  for (std::int64_t i = 0; i < y.rows; ++i) std::copy_n(table.row(ids[i]), y.columns, y.row(i));
}

void embedding_backward(const std::int32_t* ids, Rows<const double> dy, Rows<double> dtable) {
  for (std::int64_t i = 0; i < dy.rows; ++i) {
    for (std::int64_t c = 0; c < dy.columns; ++c) dtable.row(ids[i])[c] += dy.row(i)[c];
  }
}

}  // namespace krait::kernels::reference
