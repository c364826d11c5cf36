// The Gated DeltaNet mixer (Yang, Kautz & Hatamizadeh 2024) as Qwen3.5 has it; models/mixers/gated_delta.h loads it:
//   [q; k; v] = silu(conv(W_qkv u)),  q = q / |q| / sqrt(Dk),  k = k / |k|      (per head)
//   beta = sigmoid(W_b u),  dt = softplus(W_a u + bias),  o = delta_scan(q, k, v, dt, beta)
//   out = W_out (rms(o) * w * silu(W_z u))                                      (per head)
// Prefixes are read both ways as in mamba1_mixer.h, added before the norm.
#pragma once

#include "krait/nn/dense.h"
#include "krait/nn/mamba_initialisers.h"
#include "krait/nn/mixer.h"

namespace krait::nn {

struct GatedDeltaDimensions {
  std::int64_t width = 0;             // D
  std::int64_t key_heads = 0;         // Hk
  std::int64_t value_heads = 0;       // Hv, a multiple of Hk; 0: Hk
  std::int64_t key_width = 128;       // Dk
  std::int64_t value_width = 0;       // Dv; 0: Dk
  std::int64_t conv_width = 4;        // K
  double epsilon = 1e-6;              // of the gated norm
  double a_low = 1.0, a_high = 16.0;  // -A begins uniform between them
  TimeStepRange time_step = {};
};

class GatedDeltaMixer final : public Mixer {
 public:
  explicit GatedDeltaMixer(const GatedDeltaDimensions& dimensions);
  Tensor forward(const Tensor& u, const Batch& batch) override;

 private:
  // From before the convolution to before the norm.
  Tensor scan(const Tensor& qkv, const Tensor& dt, const Tensor& beta, const Segments& segments) const;

  GatedDeltaDimensions dimensions_;
  std::shared_ptr<Dense> qkv_, z_, b_, a_, out_proj_;
  std::shared_ptr<ConvWeight> conv_;
  std::shared_ptr<NormWeight> norm_;
  Tensor dt_bias_, a_log_;
};

}  // namespace krait::nn
