// What attention reads of a row, without the attention itself: the heads of its queries, keys and values.
//   q, k, v = W u (+ bias),  q, k = rotate(norm(q), norm(k))      (norms per head)
#pragma once

#include <array>
#include <optional>
#include <string>

#include "krait/kernels/attention.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/rotary.h"
#include "krait/models/mixers/low_rank.h"
#include "krait/models/step.h"
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

class AttentionHeads {
 public:
  AttentionHeads() = default;
  AttentionHeads(const WeightScope& scope, const AttentionDimensions& dimensions, const AttentionNames& names);

  struct Rows {
    kernels::RowsOut q;          // [M, Hq*P]
    kernels::RowsOut k, v;       // [M, Hk*P]
    kernels::RowsOut projected;  // of queries as W_q gives them: [M, Hq*P], with a gate [M, Hq*2P]
  };
  // Queries of `u`, keys and values of `memory` [M, input width]: the same rows as a rule. Without queries (u empty)
  // Rows has none.
  Rows project(Step& step, kernels::RowsIn u, kernels::RowsIn memory) const;

  // Adapters of queries, keys and values.
  void adapt(std::array<LowRank, 3> adapters) { adapters_ = std::move(adapters); }
  // The same weights without adapters.
  void drop_adapters() { adapters_.reset(); }
  // Heads, keys and values as the kernel wants them.
  kernels::Attention attention(DType kv_dtype) const;

 private:
  void load_projections(const WeightScope& scope, const AttentionNames& names);

  AttentionDimensions dimensions_;
  kernels::WeightMatrix query_;  // [Hq*P, D], with a gate [Hq*2P, D]
  kernels::WeightMatrix key_;    // [Hk*P, D]
  kernels::WeightMatrix value_;  // [Hk*P, D]
  const float* query_bias_ = nullptr;
  const float* key_bias_ = nullptr;
  const float* value_bias_ = nullptr;
  const float* query_norm_ = nullptr;  // [P]
  const float* key_norm_ = nullptr;
  std::optional<std::array<LowRank, 3>> adapters_;
};

// W_o [D, Hq*P] and its bias.
struct AttentionOutput {
  kernels::WeightMatrix weight;
  const float* bias = nullptr;

  static AttentionOutput load(const WeightScope& scope, const AttentionDimensions& dimensions,
                              const AttentionNames& names);
  void forward(Step& step, kernels::RowsIn attended, kernels::RowsOut out) const;
};

}  // namespace krait::models
