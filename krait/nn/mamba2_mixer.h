// The mixer of Mamba-2 (Dao & Gu 2024):
//   [z; x; B; C; dt] = W_in u,  [x; B; C] = silu(conv([x; B; C]))
//   out = W_out gated_norm(ssd_scan(x, dt, A, B, C, D), z)
// Parameters have state-spaces/mamba's names. Prefixes are read both ways as in mamba1_mixer.h, added before the norm.
#pragma once

#include "krait/nn/dense.h"
#include "krait/nn/mamba_initialisers.h"
#include "krait/nn/mixer.h"

namespace krait::nn {

struct Mamba2Dimensions {
  std::int64_t width = 0;        // D
  std::int64_t inner = 0;        // E; 0: 2 D
  std::int64_t head_width = 64;  // P
  std::int64_t states = 128;     // N
  std::int64_t groups = 1;       // G
  std::int64_t conv_width = 4;   // K
  bool norm_before_gate = false;
  double epsilon = 1e-5;
  double dt_low = 0.0, dt_high = std::numeric_limits<double>::infinity();  // time_step_limit
  double a_low = 1.0, a_high = 16.0;                                       // -A begins uniform between them
  TimeStepRange time_step = {};
};

class Mamba2Mixer final : public Mixer {
 public:
  explicit Mamba2Mixer(const Mamba2Dimensions& dimensions);
  Tensor forward(const Tensor& u, const Batch& batch) override;

 private:
  // From before the convolution to before the norm; rows [x B C dt].
  Tensor scan(const Tensor& conv_input, const Tensor& dt, const Segments& segments) const;

  Mamba2Dimensions dimensions_;
  std::int64_t heads_ = 0;
  std::shared_ptr<Dense> in_proj_, out_proj_;
  std::shared_ptr<NormWeight> norm_;
  Tensor conv_weight_, conv_bias_, dt_bias_, a_log_, d_;
};

}  // namespace krait::nn
