// Attention as a mixer: grouped heads, a window, rotations and norms as far as they are wanted. Prefixes see themselves
// both ways. Parameters are q_proj, k_proj, v_proj, o_proj (and q_norm, k_norm), as models/mixers/attention.h loads
// them.
#pragma once

#include "krait/nn/attention_heads.h"

namespace krait::nn {

class AttentionMixer final : public Mixer {
 public:
  explicit AttentionMixer(const AttentionDimensions& dimensions);
  Tensor forward(const Tensor& u, const Batch& batch) override;

 private:
  AttentionDimensions dimensions_;
  AttentionProjections projections_;
  std::shared_ptr<Dense> output_;
};

}  // namespace krait::nn
