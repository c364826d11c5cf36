// Channel mixing of RWKV-7 (Peng et al. 2025): a gateless MLP on token-shifted inputs.
//   out = W_v relu(W_k token_shift(x; x_k))^2
#pragma once

#include <string>

#include "krait/kernels/matmul.h"
#include "krait/models/state_layout.h"
#include "krait/models/step.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

class Rwkv7ChannelMix {
 public:
  // Loads the tensors of `scope` and adds the row before [1, C] to the layout. The inner width is the key's own.
  Rwkv7ChannelMix(const WeightScope& scope, std::int64_t width, StateLayout& layout, const std::string& state_name);

  // x [M, C] -> out [M, C]; advances the states of the step's segments.
  void forward(Step& step, kernels::RowsIn x, kernels::RowsOut out) const;

 private:
  const float* mix_ = nullptr;   // [C]
  kernels::WeightMatrix key_;    // [F, C]
  kernels::WeightMatrix value_;  // [C, F]
  std::uint64_t shift_offset_ = 0;
};

}  // namespace krait::models
