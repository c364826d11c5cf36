// The projections of attention: the heads of queries, keys and values of a row, as models/mixers/attention_heads.h has
// them.
//   q, k, v = W u,  q, k = rotate(norm(q), norm(k))      (norms per head)
#pragma once

#include <string>

#include "krait/kernels/rotary.h"
#include "krait/nn/dense.h"
#include "krait/nn/mixer.h"
#include "krait/nn/sequence_attention.h"

namespace krait::nn {

struct AttentionDimensions {
  std::int64_t width = 0;       // D
  std::int64_t heads = 0;       // Hq
  std::int64_t key_heads = 0;   // Hk, a divisor of Hq; 0: Hq
  std::int64_t head_width = 0;  // of queries, keys and values; 0: D / Hq
  std::int64_t window = 0;      // tokens a token sees, itself counted; 0: all
  kernels::Rotary rotary = {};  // width 0: none. divisors outlive the mixer
  bool norms = false;           // RMS norms of each head's queries and keys
  double norm_epsilon = 1e-6;

  // With the zeros filled in. Throws UserError for sizes that do not fit together.
  AttentionDimensions checked() const;
  AttentionHeads counts() const { return {.query = heads, .key = key_heads}; }
};

class AttentionProjections {
 public:
  AttentionProjections() = default;
  // Registers q_proj, k_proj, v_proj (and q_norm, k_norm) with the owner, names followed by `suffix`.
  AttentionProjections(torch::nn::Module& owner, const AttentionDimensions& dimensions, const std::string& suffix = "");

  // table: rotary_table() of the rows, or undefined where nothing turns.
  Tensor queries(const Tensor& x, const Tensor& table) const;
  Tensor keys(const Tensor& x, const Tensor& table) const;
  Tensor values(const Tensor& x) const { return value_->forward(x); }

 private:
  Tensor turned(const Tensor& projected, const std::shared_ptr<NormWeight>& norm, const Tensor& table) const;

  AttentionDimensions dimensions_;
  std::shared_ptr<Dense> query_, key_, value_;
  std::shared_ptr<NormWeight> query_norm_, key_norm_;
};

// Undefined where nothing turns.
Tensor rotations_of(const AttentionDimensions& dimensions, const Tensor& x, const Batch& batch);

}  // namespace krait::nn
