// The small modules that mixers are made of: parameters under the names that checkpoints have for them, as torch's own
// layers begin.
#pragma once

#include <torch/nn/module.h>

#include "krait/nn/linear.h"

namespace krait::nn {

// "weight" [N, K] and, if it has one, "bias" [N].
struct Dense : torch::nn::Module {
  // Both from U(-1/sqrt(K), 1/sqrt(K)), as torch's own linear layers begin.
  Dense(std::int64_t inputs, std::int64_t outputs, bool with_bias = false);
  Tensor forward(const Tensor& x) const { return nn::linear(x, weight, bias); }

  Tensor weight, bias;
};

// The taps of a causal depthwise convolution, "weight" [C, 1, K] and, if it has one, "bias" [C], from U(-1/sqrt(K),
// 1/sqrt(K)).
struct ConvWeight : torch::nn::Module {
  ConvWeight(std::int64_t channels, std::int64_t width, bool with_bias = true);

  Tensor weight, bias;
};

// The weight of a norm, "weight" [D], ones.
struct NormWeight : torch::nn::Module {
  explicit NormWeight(std::int64_t width);

  Tensor weight;
};

}  // namespace krait::nn
