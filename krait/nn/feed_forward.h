// The gated feed-forward layer between mixers (SwiGLU; Shazeer 2020): out = W_2 (value silu(gate)), [value; gate] = W_1
// u. Names of state-spaces/mamba: "fc1.weight" [2 F, D], value first, and "fc2.weight" [D, F].
#pragma once

#include "krait/nn/dense.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

class FeedForward final : public torch::nn::Module {
 public:
  FeedForward(std::int64_t width, std::int64_t hidden);
  Tensor forward(const Tensor& x) const;
  std::shared_ptr<Dense> output() const { return fc2_; }

 private:
  std::int64_t hidden_;
  std::shared_ptr<Dense> fc1_, fc2_;
};

}  // namespace krait::nn
