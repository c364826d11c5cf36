// Time mixing of RWKV-7 (Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution").
//   m_c = token_shift(x; x_c) for c of r, w, k, v, a, g
//   r = W_r m_r,  k = W_k m_k,  v = W_v m_v,  g = sigmoid(m_g g1) g2
//   w, a, kappa, k from the gates of w0 + tanh(m_w w1) w2 and a0 + m_a a1 a2 (kernels/rwkv7_gates.h)
//   layers after the first: v += (v_first - v) sigmoid(v0 + m_v v1 v2)
//   y = scan(r, w, k, v, kappa, a kappa);  out = W_o ((group_norm(y) + (sum r k r_k) v) g)
#pragma once

#include <array>
#include <string>

#include "krait/kernels/layer_norm.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/rwkv7_gates.h"
#include "krait/kernels/scan_rwkv7.h"
#include "krait/models/state_layout.h"
#include "krait/models/step.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

class Rwkv7TimeMix {
 public:
  // Loads the tensors of `scope` and adds to the layout the row before [1, C] and the state [H, P, P]. `output_bias`
  // [C] or null. Ranks of the low-rank maps come from their shapes. The first layer has no value residual.
  Rwkv7TimeMix(const WeightScope& scope, std::int64_t heads, std::int64_t head_width, bool first_layer,
               const float* output_bias, StateLayout& layout, const std::string& state_name);

  // x [M, C] -> out [M, C]; advances the states of the step's segments. first_value [M, C]: filled by the first layer,
  // read by all others.
  void forward(Step& step, kernels::RowsIn x, kernels::RowsOut first_value, kernels::RowsOut out) const;

 private:
  enum Input : std::size_t { kR, kW, kK, kV, kA, kG, kInputs };
  // x -> (x first) second, each stored as [outputs, inputs]
  struct LowRank {
    kernels::WeightMatrix first;   // [rank, C]
    kernels::WeightMatrix second;  // [C, rank]
  };

  std::int64_t width() const { return scan_.heads * scan_.head_width; }
  void load_mixes(const WeightScope& scope);
  LowRank load_low_rank(const WeightScope& scope, const std::string& letter) const;

  std::array<const float*, kInputs> mix_{};  // [C] each
  kernels::WeightMatrix receptance_, key_, value_, output_;
  const float* output_bias_ = nullptr;
  LowRank decay_, rate_, residual_, gate_;
  bool first_layer_ = false;
  const float* v0_ = nullptr;
  const float* r_k_ = nullptr;
  kernels::Rwkv7Gates gates_;
  kernels::Rwkv7Scan scan_;
  kernels::LayerNorm norm_;
  std::uint64_t shift_offset_ = 0;
  std::uint64_t state_offset_ = 0;
};

}  // namespace krait::models
