// B'MOJO as a mixer (Zancato et al. 2024; models/mixers/bmojo.h has the equations): any mixer for what fades, and
// attention over a window, over what that mixer made of the tokens before it and, with a store, over the tokens that
// were hardest to predict. Parameters: bmojo_attn.{q,k,v,o}_proj (and norms; q_proj_ … where weights are not tied), and
// those of the fading mixer under its name, "mamba" or "gdn" as models/hybrid_qwen3.cpp loads them.
#pragma once

#include "krait/nn/attention_heads.h"

namespace krait::nn {

struct BmojoDimensions {
  AttentionDimensions attention = {};  // with the window w
  bool tied = true;
  std::int64_t eidetic = 0;  // tokens in the store; 0: none
};

class BmojoMixer final : public Mixer {
 public:
  BmojoMixer(const BmojoDimensions& dimensions, std::shared_ptr<Mixer> fading, const std::string& fading_name);
  // Throws UserError where the batch has prefixes: what fades is delayed, so it cannot be seen from before.
  Tensor forward(const Tensor& u, const Batch& batch) override;

 private:
  BmojoDimensions dimensions_;
  std::shared_ptr<Mixer> fading_;
  AttentionProjections near_, far_;
  std::shared_ptr<Dense> output_;
};

}  // namespace krait::nn
