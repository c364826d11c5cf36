// The cross entropy of next tokens under autograd (kernels/token_loss.h): logits exist a stretch of rows at a time, and
// their gradients are computed while they do.
#pragma once

#include <span>

#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct TokenLossOptions {
  std::int64_t vocabulary = 0;  // V: rows of the head from here on are padding; 0: all are tokens
  double z_factor = 0.0;        // of the z loss
  double smoothing = 0.0;       // share of a target's probability that all tokens share, in [0, 1)
};

struct TokenLossResult {
  Tensor loss;            // a scalar: the mean over rows with a target, weighted
  Tensor row_losses;      // [M], f32, without gradients
  std::int64_t rows = 0;  // with a target
};

// hidden [M, D], head [V and more, D]; targets [M], kernels::kNoTarget (-100) where a row has no loss; row_weights [M]
// or empty. `divisor`: what the sum is divided by, 0 for the sum of the weights (of all rows of an accumulated step,
// perhaps on several machines, it is given). UserError for a target outside the vocabulary.
TokenLossResult token_loss(const Tensor& hidden, const Tensor& head, std::span<const std::int32_t> targets,
                           std::span<const float> row_weights = {}, const TokenLossOptions& options = {},
                           double divisor = 0.0);

}  // namespace krait::nn
