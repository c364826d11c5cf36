// Attention of hybrids: grouped queries (GQA, MQA), rotary positions on all, some or none of a head's components, norms
// of queries and keys, a sliding window, a gate on the output (Qwen).
//   q, k, v = heads(u) (attention_heads.h),  out = W_o (attention(q, k, v) * sigmoid(gate))
#pragma once

#include <array>
#include <string>

#include "krait/kernels/attention.h"
#include "krait/models/mixers/attention_heads.h"
#include "krait/models/mixers/mixer.h"
#include "krait/models/state_layout.h"

namespace krait::models {

class AttentionMixer final : public Mixer {
 public:
  // Loads the tensors of `scope` and adds one tensor of keys and values to the layout.
  AttentionMixer(const WeightScope& scope, const AttentionDimensions& dimensions, StateLayout& layout,
                 const std::string& state_name, const AttentionNames& names = {});

  // The same weights with a cache of their own, for another layer.
  AttentionMixer again(StateLayout& layout, const std::string& state_name) const;
  // Adapters of queries, keys and values.
  void adapt(std::array<LowRank, 3> adapters) { heads_.adapt(std::move(adapters)); }

  // u [M, input width] -> out [M, D]
  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  void add_cache(StateLayout& layout, const std::string& state_name);

  AttentionDimensions dimensions_;
  AttentionHeads heads_;
  AttentionOutput output_;
  kernels::Attention attention_;
  std::uint64_t offset_ = 0;
};

}  // namespace krait::models
