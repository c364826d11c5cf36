// The Gated DeltaNet mixer (Yang, Kautz & Hatamizadeh 2024) as Qwen3-Next has it, and as it replaces attention, with
// heads that share k and v as grouped queries do.
//   [q; k; v] = silu(conv(W_qkv u)),  q = q / |q| / sqrt(Dk),  k = k / |k|      (per head)
//   beta = sigmoid(W_b u),  dt = softplus(W_a u + bias),  o = delta_scan(q, k, v, dt, beta)
//   out = W_out (rms(o) * w * silu(W_z u))                                      (per head)
#pragma once

#include <string>
#include <vector>

#include "krait/kernels/conv1d_causal.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/scan_delta.h"
#include "krait/models/mixers/mixer.h"
#include "krait/models/state_layout.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct GatedDeltaDimensions {
  std::int64_t width = 0;        // D
  std::int64_t key_heads = 0;    // Hk
  std::int64_t value_heads = 0;  // Hv, a multiple of Hk
  std::int64_t key_width = 0;    // Dk
  std::int64_t value_width = 0;  // Dv
  std::int64_t conv_width = 4;   // K
  // Not 0: so many heads of k and v, each used by key_heads / shared_heads heads (value_heads is key_heads).
  std::int64_t shared_heads = 0;
  float beta_factor = 1.0F;  // 2 where eigenvalues of the state's transition may be negative
  float epsilon = 1e-6F;     // of the gated norm
  // How the projections of a checkpoint that is only planned would stand; else the tensors tell.
  bool interleaved = false;
  // flash-linear-attention's names: q_proj, k_proj, v_proj, each with a convolution, g_proj, b_proj, gk_proj, o_norm,
  // o_proj.
  bool apart = false;
};

class GatedDeltaMixer final : public Mixer {
 public:
  // Loads the tensors of `scope` (in_proj_qkvz and in_proj_ba, interleaved by key head, or in_proj_qkv, _z, _b, _a) and
  // adds two tensors to the layout: the window [K-1, channels of q, k and v] and the state [Hv, Dk, Dv].
  GatedDeltaMixer(const WeightScope& scope, const GatedDeltaDimensions& dimensions, StateLayout& layout,
                  const std::string& state_name);

  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  std::int64_t keys() const { return dimensions_.key_heads * dimensions_.key_width; }
  std::int64_t values() const { return dimensions_.value_heads * dimensions_.value_width; }
  // Of k and v as they are projected.
  bool shares() const { return dimensions_.shared_heads > 0 && dimensions_.shared_heads < dimensions_.key_heads; }
  std::int64_t k_columns() const { return shares() ? dimensions_.shared_heads * dimensions_.key_width : keys(); }
  std::int64_t v_columns() const { return shares() ? dimensions_.shared_heads * dimensions_.value_width : values(); }
  std::int64_t channels() const { return keys() + k_columns() + v_columns(); }
  void load_projections(const WeightScope& scope);
  void load_apart(const WeightScope& scope);

  GatedDeltaDimensions dimensions_;
  std::vector<kernels::WeightMatrix> qkv_;  // one [2 Hk Dk + Hv Dv, D], or one each
  kernels::WeightMatrix z_;                 // [Hv Dv, D]
  kernels::WeightMatrix beta_;              // [Hv, D]
  kernels::WeightMatrix dt_;                // [Hv, D]
  kernels::WeightMatrix out_proj_;          // [D, Hv Dv]
  const float* dt_bias_ = nullptr;          // [Hv]
  const float* norm_ = nullptr;             // [Dv]
  // |x| over D components is sqrt(D) times their root mean square: norms are RMS norms with these weights.
  std::vector<float> query_scale_, key_scale_;  // [Dk]
  std::vector<float> taps_;                     // of three convolutions as one
  kernels::Conv1dCausal conv_;
  kernels::DeltaScan scan_;
  std::uint64_t window_offset_ = 0, state_offset_ = 0, window_bytes_ = 0, state_bytes_ = 0;
};

}  // namespace krait::models
