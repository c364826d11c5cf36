// Cross entropy of next tokens, and its gradients, without ever holding the logits of all rows. For each row with a
// target, with l = logit_scale (hidden . head[v]) over the vocabulary and s = log(sum of e^l):
//   loss = s - l[target],   z loss = s^2 (Chowdhery et al. 2022, which keeps s near zero)
//   smoothing loss = l[target] - mean of l (Szegedy et al. 2016: with a share of it, the loss is the cross entropy with
//   that share of the target's probability spread over the vocabulary, which keeps logits from growing without end)
// The gradients are those of sum over rows of weight (loss + z_factor s^2 + smoothing (l[target] - mean of l)):
//   dl[v] = weight (e^(l[v] - s) (1 + 2 z_factor s) - (1 - smoothing) [v = target] - smoothing / V)
//   dhidden = logit_scale dl head,   dhead += logit_scale dl^T hidden
// Rows are taken in stretches: while a stretch of logits is at hand, it becomes dl in place and is multiplied on. Rows
// without a target cost nothing.
#pragma once

#include <cstdint>
#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/dense_product.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// The target of a row that has no loss.
inline constexpr std::int32_t kNoTarget = -100;

template <class Real>
struct TokenLossOf {
  Rows<const Real> head;        // [V and more, D]: tied to the embedding or not
  std::int64_t vocabulary = 0;  // V: rows of the head from here on are padding, outside the softmax
  Real logit_scale = 1;
  Real z_factor = 0;
  Real smoothing = 0;                                   // in [0, 1)
  ProductPrecision precision = ProductPrecision::kF32;  // of the three products
  // Logits held at a time, 64 MiB; but 16 rows at least.
  std::int64_t most_logits = std::int64_t{1} << 24;
};
using TokenLoss = TokenLossOf<float>;

template <class Real>
struct TokenLossGradientsOf {
  Rows<Real> hidden = {};  // [M, D], written (zeros for rows without a target); empty: not wanted
  Rows<Real> head = {};    // as the head, added to; empty: not wanted
};
using TokenLossGradients = TokenLossGradientsOf<float>;

// Sums over the rows that have a target, in double, in the order of the rows.
struct TokenLossSums {
  double loss = 0.0;            // of weight * loss
  double z_loss = 0.0;          // of weight * z_factor s^2
  double smoothing_loss = 0.0;  // of weight * smoothing (l[target] - mean of l)
  double weight = 0.0;          // of the weights: the loss's mean is loss / weight
  std::int64_t rows = 0;

  double total() const { return loss + z_loss + smoothing_loss; }
};

// hidden [M, D]; targets [M], each kNoTarget or in [0, V): checked, InternalError. row_weights [M] or empty for ones; a
// mean over N tokens has weights 1 / N. losses [M], unweighted, 0 for rows without a target; or null. Where a loss is
// not finite, NaN flows back from its row.
TokenLossSums token_loss(ThreadPool& pool, const TokenLoss& loss, RowsIn hidden, std::span<const std::int32_t> targets,
                         std::span<const float> row_weights, float* losses, const TokenLossGradients& gradients);

}  // namespace krait::kernels
