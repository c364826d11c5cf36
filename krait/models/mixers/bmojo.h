// B'MOJO (Zancato et al. 2024): a recurrence and a sliding window in one layer, read by one attention. With w the
// window, x the layer's input and f = SSM(x) what the recurrence makes of it,
//   o_t = softmax over  (q_t, k(x_j), v(x_j)),   t - w < j <= t         in context
//                       (q'_t, k'(f_j), v'(f_j)), t - 2w < j <= t - w   fading
//                       (q_t, k(x_j), v(x_j)),   j in the store at t    eidetic
//   out = W_o o
// q', k', v' are q, k, v where weights are tied, else projections of their own (queries always of x); every key is
// turned by its token's position. Without a store this is B'MOJO-F, the form of which there is code and models. What
// the eidetic store keeps, kernels/eidetic_store.h says.
#pragma once

#include <memory>
#include <string>

#include "krait/kernels/eidetic_store.h"
#include "krait/models/mixers/attention_heads.h"
#include "krait/models/mixers/mixer.h"
#include "krait/models/state_layout.h"

namespace krait::models {

struct BmojoDimensions {
  AttentionDimensions attention;  // with the window w
  bool tied = true;
  std::int64_t eidetic = 0;  // tokens in the store; 0: none
};

class BmojoMixer final : public Mixer {
 public:
  // Loads the tensors of `scope` for the attention and adds its state to the layout: rings of w (with a store w + 1)
  // and 2w tokens, and the store. `fading` is the SSM, whose state stands in the layout already.
  BmojoMixer(const WeightScope& scope, const BmojoDimensions& dimensions, std::unique_ptr<Mixer> fading,
             StateLayout& layout, const std::string& state_name);

  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  std::int64_t near_window() const { return attention_.window + (store_.size > 0 ? 1 : 0); }
  void attend(Step& step, const AttentionHeads::Rows& near, const AttentionHeads::Rows& far,
              kernels::RowsOut attended) const;

  BmojoDimensions dimensions_;
  std::unique_ptr<Mixer> fading_;
  AttentionHeads heads_, fading_heads_;  // the latter where weights are not tied
  AttentionOutput output_;
  kernels::Attention attention_;
  kernels::EideticStore store_;
  std::uint64_t near_offset_ = 0, far_offset_ = 0;
  struct StoreOffsets {
    std::uint64_t pages = 0, scores = 0, positions = 0, pending = 0, prediction = 0;
  } store_offsets_;
};

}  // namespace krait::models
