// Differential attention (Ye et al. 2024) as SambaY has it: heads come in pairs, whose two maps of scores are
// subtracted and read the values of both.
//   o = softmax(q1 k1) [v1; v2] - lambda softmax(q2 k2) [v1; v2],   out = W_o ((1 - lambda0) rms(o) w)
//   lambda = exp(l_q1 . l_k1) - exp(l_q2 . l_k2) + lambda0,   lambda0 = 0.8 - 0.6 exp(-0.3 layer)
// Heads 2i and 2i + 1 are a pair. No positions. A layer may have no keys of its own and read those of another (cross).
#pragma once

#include <string>

#include "krait/kernels/attention.h"
#include "krait/kernels/matmul.h"
#include "krait/models/state_layout.h"
#include "krait/models/step.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct DifferentialAttentionDimensions {
  std::int64_t width = 0;       // D
  std::int64_t heads = 0;       // Hq, even
  std::int64_t key_heads = 0;   // Hk, even; a divisor of Hq
  std::int64_t head_width = 0;  // P
  std::int64_t layer = 0;
  std::int64_t window = 0;  // tokens a token sees, itself counted; 0: all
};

class DifferentialAttention {
 public:
  // Adds keys and values to the layout.
  DifferentialAttention(const WeightScope& scope, const DifferentialAttentionDimensions& dimensions,
                        StateLayout& layout, const std::string& state_name);
  // One that reads the keys and values of `source`, which sees all tokens.
  DifferentialAttention(const WeightScope& scope, const DifferentialAttentionDimensions& dimensions,
                        const DifferentialAttention& source);

  // u [M, D] -> out [M, D] for all rows of the step.
  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const;
  // The same without storing anything, for the rows alone whose logits are wanted.
  void forward_wanted(Step& step, kernels::RowsIn u, kernels::RowsOut out) const;

 private:
  void load(const WeightScope& scope, std::int64_t rows);
  void finish(Step& step, kernels::RowsOut attended, kernels::RowsOut out) const;

  DifferentialAttentionDimensions dimensions_;
  kernels::WeightMatrix qkv_;     // [(Hq + 2 Hk) P, D], or [Hq P, D]
  kernels::WeightMatrix output_;  // [D, Hq P]
  const float* qkv_bias_ = nullptr;
  const float* output_bias_ = nullptr;
  const float* norm_ = nullptr;  // [2P], (1 - lambda0) inside
  float lambda_ = 0.0F;
  kernels::Attention attention_;
  std::uint64_t offset_ = 0;
};

}  // namespace krait::models
