// Attention of hybrids: grouped queries (GQA, MQA), rotary positions on all, some or none of a head's components, norms
// of queries and keys, a sliding window, a gate on the output (Qwen).
//   q, k, v = W u (+ bias),  q, k = rotate(norm(q), norm(k)),  out = W_o (attention(q, k, v) * sigmoid(gate))
#pragma once

#include <array>
#include <optional>
#include <string>

#include "krait/kernels/attention.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/rotary.h"
#include "krait/models/mixers/low_rank.h"
#include "krait/models/mixers/mixer.h"
#include "krait/models/state_layout.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct AttentionDimensions {
  std::int64_t width = 0;        // D
  std::int64_t input_width = 0;  // of what is projected to queries, keys and values; 0: D
  std::int64_t heads = 0;        // Hq
  std::int64_t key_heads = 0;    // Hk, a divisor of Hq
  std::int64_t head_width = 0;   // of queries, keys and values
  float scale = 0.0F;            // of the scores; 0: 1 / sqrt(head width)
  std::int64_t window = 0;       // tokens a token sees, itself counted; 0: all
  kernels::Rotary rotary;        // width 0: none
  bool norms = false;            // RMS norms of each head's queries and keys
  bool norms_from_one = false;   // they store w - 1
  float norm_epsilon = 1e-6F;
  bool output_gate = false;                                            // W_q gives [query; gate] of each head
  bool biases = true;                                                  // used where the checkpoint has them
  bool output_bias = true;                                             // the same of W_o
  float input_factor = 1.0F, key_factor = 1.0F, output_factor = 1.0F;  // Falcon-H1's multipliers
};

// Names of the tensors without ".weight" and ".bias"; GGUF's are always the same.
struct AttentionNames {
  std::string query = "q_proj", key = "k_proj", value = "v_proj", output = "o_proj";
  std::string query_norm = "q_norm", key_norm = "k_norm";
  // One tensor for queries, keys and values: for every key head its r query heads, its key, its value.
  std::string fused = {};
};

class AttentionMixer final : public Mixer {
 public:
  // Loads the tensors of `scope` and adds one tensor of keys and values to the layout.
  AttentionMixer(const WeightScope& scope, const AttentionDimensions& dimensions, StateLayout& layout,
                 const std::string& state_name, const AttentionNames& names = {});

  // The same weights with a cache of their own, for another layer.
  AttentionMixer again(StateLayout& layout, const std::string& state_name) const;
  // Adapters of queries, keys and values.
  void adapt(std::array<LowRank, 3> adapters) { adapters_ = std::move(adapters); }

  // u [M, input width] -> out [M, D]
  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  void load_projections(const WeightScope& scope, const AttentionNames& names);
  void add_cache(StateLayout& layout, const std::string& state_name);

  AttentionDimensions dimensions_;
  kernels::WeightMatrix query_;   // [Hq*P, D], with a gate [Hq*2P, D]
  kernels::WeightMatrix key_;     // [Hk*P, D]
  kernels::WeightMatrix value_;   // [Hk*P, D]
  kernels::WeightMatrix output_;  // [D, Hq*P]
  const float* query_bias_ = nullptr;
  const float* key_bias_ = nullptr;
  const float* value_bias_ = nullptr;
  const float* output_bias_ = nullptr;
  const float* query_norm_ = nullptr;  // [P]
  const float* key_norm_ = nullptr;
  std::optional<std::array<LowRank, 3>> adapters_;
  kernels::Attention attention_;
  std::uint64_t offset_ = 0;
};

}  // namespace krait::models
