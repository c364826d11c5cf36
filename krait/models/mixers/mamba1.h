// The Mamba mixer (Gu & Dao 2023), with the inner norms that FalconMamba and Jamba add.
//   [x; z] = W_in u,  x = silu(conv(x)),  [dt; B; C] = W_x x,  dt = softplus(W_dt dt + b)
//   y = selective_scan(x, dt, A, B, C, D),  out = W_out (y * silu(z))
// HAX adds sparse attention over x to y before the gate (hax.h).
#pragma once

#include <optional>
#include <string>

#include "krait/kernels/conv1d_causal.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/scan_selective.h"
#include "krait/models/mixers/hax.h"
#include "krait/models/mixers/mixer.h"
#include "krait/models/state_layout.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct Mamba1Dimensions {
  std::int64_t width = 0;       // D
  std::int64_t inner = 0;       // E
  std::int64_t states = 16;     // N
  std::int64_t conv_width = 4;  // K
  std::int64_t dt_rank = 0;     // R
  // RMS norms on dt, B and C before W_dt.
  enum class InnerNorms { kNone, kWeightless /* FalconMamba */, kWeighted /* Jamba */ };
  InnerNorms inner_norms = InnerNorms::kNone;
  float inner_epsilon = 1e-6F;
  std::optional<HaxDimensions> hax = std::nullopt;
};

class Mamba1Mixer final : public Mixer {
 public:
  // Loads the tensors of `scope` and adds two tensors to the layout: the window [K-1, E] and the state [N, E];
  // with HAX, those of its attention as well.
  Mamba1Mixer(const WeightScope& scope, const Mamba1Dimensions& dimensions, StateLayout& layout,
              const std::string& state_name);

  // The same as forward(), and keeps what goes through the gate (D x included) in `kept` [M, E], where it is
  // not empty.
  void forward_keeping(Step& step, kernels::RowsIn u, kernels::RowsOut out, kernels::RowsOut kept) const;

  // u [M, D] -> out [M, D]; advances the states of the step's segments.
  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  Mamba1Dimensions dimensions_;
  kernels::WeightMatrix in_proj_;   // [2E, D], x above z
  kernels::WeightMatrix x_proj_;    // [R+2N, E], dt above B above C
  kernels::WeightMatrix dt_proj_;   // [E, R]; its bias belongs to the scan
  kernels::WeightMatrix out_proj_;  // [D, E]
  const float* in_bias_ = nullptr;
  const float* out_bias_ = nullptr;
  const float* dt_norm_ = nullptr;
  const float* b_norm_ = nullptr;
  const float* c_norm_ = nullptr;
  kernels::Conv1dCausal conv_;
  kernels::SelectiveScan scan_;
  std::optional<Hax> hax_;
  std::uint64_t window_offset_ = 0;
  std::uint64_t state_offset_ = 0;
  std::uint64_t window_bytes_ = 0;
  std::uint64_t state_bytes_ = 0;
};

}  // namespace krait::models
