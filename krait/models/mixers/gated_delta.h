// The Gated DeltaNet mixer (Yang, Kautz & Hatamizadeh 2024) as Qwen3-Next has it.
//   [q; k; v] = silu(conv(W_qkv u)),  q = q / |q| / sqrt(Dk),  k = k / |k|      (per head)
//   beta = sigmoid(W_b u),  dt = softplus(W_a u + bias),  o = delta_scan(q, k, v, dt, beta)
//   out = W_out (rms(o) * w * silu(W_z u))                                      (per head)
#pragma once

#include <string>

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
  float epsilon = 1e-6F;         // of the gated norm
  // How the projections of a checkpoint that is only planned would stand; else the tensors tell.
  bool interleaved = false;
};

class GatedDeltaMixer final : public Mixer {
 public:
  // Loads the tensors of `scope` (in_proj_qkvz and in_proj_ba, interleaved by key head, or in_proj_qkv, _z, _b, _a) and
  // adds two tensors to the layout: the window [K-1, 2*Hk*Dk+Hv*Dv] and the state [Hv, Dk, Dv].
  GatedDeltaMixer(const WeightScope& scope, const GatedDeltaDimensions& dimensions, StateLayout& layout,
                  const std::string& state_name);

  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  std::int64_t keys() const { return dimensions_.key_heads * dimensions_.key_width; }
  std::int64_t values() const { return dimensions_.value_heads * dimensions_.value_width; }
  void load_projections(const WeightScope& scope);

  GatedDeltaDimensions dimensions_;
  kernels::WeightMatrix qkv_;       // [2 Hk Dk + Hv Dv, D]
  kernels::WeightMatrix z_;         // [Hv Dv, D]
  kernels::WeightMatrix beta_;      // [Hv, D]
  kernels::WeightMatrix dt_;        // [Hv, D]
  kernels::WeightMatrix out_proj_;  // [D, Hv Dv]
  const float* dt_bias_ = nullptr;  // [Hv]
  const float* norm_ = nullptr;     // [Dv]
  // |x| over D components is sqrt(D) times their root mean square: norms are RMS norms with these weights.
  std::vector<float> query_scale_, key_scale_;  // [Dk]
  kernels::Conv1dCausal conv_;
  kernels::DeltaScan scan_;
  std::uint64_t window_offset_ = 0, state_offset_ = 0, window_bytes_ = 0, state_bytes_ = 0;
};

}  // namespace krait::models
