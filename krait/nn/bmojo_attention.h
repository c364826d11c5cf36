// B'MOJO's attention under autograd (Zancato et al. 2024; models/mixers/bmojo.h has the equations): one softmax over
// the tokens in the window, over what the recurrence made of those before it, and over those that the eidetic store
// keeps (kernels/eidetic_store.h). The choice of the store has no gradient (docs/decisions/0016).
#pragma once

#include "krait/nn/sequence_attention.h"

namespace krait::nn {

struct BmojoAttention {
  AttentionHeads heads = {};
  std::int64_t window = 0;   // w, at least 1
  std::int64_t eidetic = 0;  // tokens in the store; 0: none
};

struct BmojoRows {
  Tensor q = {};          // [..., Hq*Dk]
  Tensor k = {}, v = {};  // [..., Hk*Dk], [..., Hv*Dv]
};

// near: of the layer's input. far: of the recurrence's output, q perhaps the same tensor. [..., Hq*Dv].
Tensor bmojo_attention(const BmojoAttention& attention, const BmojoRows& near, const BmojoRows& far,
                       const Segments& segments);

// Which tokens the store shows to which rows of each segment, from the values of both.
std::vector<std::vector<kernels::ChosenToken>> eidetic_choice(const Tensor& predicted, const Tensor& actual,
                                                              std::int64_t size, std::int64_t window,
                                                              const Segments& segments);

}  // namespace krait::nn
