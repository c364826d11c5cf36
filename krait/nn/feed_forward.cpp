#include "krait/nn/feed_forward.h"

#include "krait/nn/activations.h"

namespace krait::nn {

FeedForward::FeedForward(std::int64_t width, std::int64_t hidden) : hidden_(hidden) {
  fc1_ = register_module("fc1", std::make_shared<Dense>(width, 2 * hidden));
  fc2_ = register_module("fc2", std::make_shared<Dense>(hidden, width));
}

Tensor FeedForward::forward(const Tensor& x) const {
  const auto parts = split_columns(fc1_->forward(x), {hidden_, hidden_});
  return fc2_->forward(silu_gate(parts[0], parts[1]));
}

}  // namespace krait::nn
