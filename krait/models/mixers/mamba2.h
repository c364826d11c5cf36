// The Mamba-2 mixer (Dao & Gu 2024).
//   [z; x; B; C; dt] = W_in u,  [x; B; C] = silu(conv([x; B; C]))
//   y = ssd_scan(x, dt, A, B, C, D),  out = W_out norm(y, z)
// HAX adds sparse attention over x to y before the norm (hax.h).
// Where it replaces attention (Wang et al. 2024: x, B and C are made of values, keys and queries), heads share x and B
// as grouped queries share values and keys, and B and C are normed and turned before the convolution:
//   B, C = rotate(norm(B), norm(C))      (per head)
#pragma once

#include <array>
#include <limits>
#include <optional>
#include <string>

#include "krait/kernels/conv1d_causal.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/norm.h"
#include "krait/kernels/rotary.h"
#include "krait/kernels/scan_ssd.h"
#include "krait/models/mixers/hax.h"
#include "krait/models/mixers/mixer.h"
#include "krait/models/state_layout.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct Mamba2Dimensions {
  std::int64_t width = 0;        // D
  std::int64_t heads = 0;        // H
  std::int64_t head_width = 64;  // P; the inner width is H*P
  std::int64_t states = 128;     // N
  std::int64_t groups = 1;       // G
  std::int64_t conv_width = 4;   // K
  // Not 0: so many heads of x and B, each used by heads / shared_heads heads; every head has a C of its own (groups is
  // the number of heads).
  std::int64_t shared_heads = 0;
  bool state_norms = false;  // RMS norms of B and C ("B_norm", "C_norm")
  float state_norm_epsilon = 1e-6F;
  kernels::Rotary rotary = {};  // of B and C; width 0: none
  float epsilon = 1e-5F;        // of the gated norm
  // false: the gate alone, y * silu(z)
  bool gated_norm = true;
  kernels::GateOrder gate_order = kernels::GateOrder::kGateThenNorm;
  float dt_low = 0.0F;  // time_step_limit
  float dt_high = std::numeric_limits<float>::infinity();
  // Falcon-H1's multipliers: of u, of the result, and of z, x, B, C and dt.
  float input_factor = 1.0F, output_factor = 1.0F;
  std::array<float, 5> part_factors = {1.0F, 1.0F, 1.0F, 1.0F, 1.0F};
  std::optional<HaxDimensions> hax = std::nullopt;
};

// time_step_limit, a pair of numbers, under `key`; nothing changes where it is missing.
void read_dt_limits(WeightLoader& loader, std::string_view key, Mamba2Dimensions& mixer);

class Mamba2Mixer final : public Mixer {
 public:
  // Loads the tensors of `scope` and adds two tensors to the layout: the window [K-1, channels of x, B and C] and the
  // state [H, N, P]; with HAX, those of its attention as well.
  Mamba2Mixer(const WeightScope& scope, const Mamba2Dimensions& dimensions, StateLayout& layout,
              const std::string& state_name);

  // u [M, D] -> out [M, D]; advances the states of the step's segments.
  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  std::int64_t inner() const { return dimensions_.heads * dimensions_.head_width; }
  std::int64_t group_states() const { return dimensions_.groups * dimensions_.states; }  // of C
  // Of x and B as they are projected.
  bool shares() const { return dimensions_.shared_heads > 0 && dimensions_.shared_heads < dimensions_.heads; }
  std::int64_t x_columns() const { return shares() ? dimensions_.shared_heads * dimensions_.head_width : inner(); }
  std::int64_t b_columns() const { return shares() ? dimensions_.shared_heads * dimensions_.states : group_states(); }
  void prepare_states(Step& step, kernels::RowsOut b, kernels::RowsOut c) const;

  Mamba2Dimensions dimensions_;
  kernels::WeightMatrix in_proj_;   // rows z, x, B, C, dt: [2HP + 2GN + H, D] where nothing is shared
  kernels::WeightMatrix out_proj_;  // [D, HP]
  const float* in_bias_ = nullptr;
  float* out_bias_ = nullptr;
  const float* norm_ = nullptr;                        // [HP]
  const float *b_norm_ = nullptr, *c_norm_ = nullptr;  // [N]
  kernels::Conv1dCausal conv_;
  kernels::SsdScan scan_;
  std::optional<Hax> hax_;
  std::uint64_t window_offset_ = 0;
  std::uint64_t state_offset_ = 0;
  std::uint64_t window_bytes_ = 0;
  std::uint64_t state_bytes_ = 0;
};

}  // namespace krait::models
