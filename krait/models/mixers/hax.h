// HAX (Zhan et al. 2025, arXiv 2507.00449): what it adds to the y of a Mamba block before the gate. x is the block's
// own input after the convolution, [E] wide; N is the width of the state.
//   [k; q] = W_xx x,  k = k / sqrt(N),  y += E * attention(q, k, x)
// over the most recent keys of the query's hash bucket and the keys of the highest scores (kernels/hax_attention.h):
//   hashed:  sign(P (k - mean of the k before)), the same of q
//   score:   w3 relu(W2 relu(W1 [k; m / |m|] + b1) + b2) + b3,  m the mean of the q so far
// The published code centres and normalises over the whole sequence and draws P anew in every pass; here nothing looks
// ahead and P is a tensor of the checkpoint (docs/decisions/0009).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "krait/kernels/hax_attention.h"
#include "krait/kernels/matmul.h"
#include "krait/models/state_layout.h"
#include "krait/models/step.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct HaxDimensions {
  std::int64_t hashes = 0;
  std::int64_t recent = 0;    // keys of a bucket; 0: no hashing
  std::int64_t selected = 0;  // keys of the highest scores; 0: no selection
};

// sparse_arch ("sign_bin_lsh+key_selection", or one of them), sparse_keys, num_hash; nothing where sparse_arch is
// missing. `states` N and `inner` E give the size of the state, which must not be absurd.
std::optional<HaxDimensions> read_hax(WeightLoader& loader, std::int64_t states, std::int64_t inner);

class Hax {
 public:
  // Loads xx_proj, E, dx_proj_1 … 3 and hash_projection [hashes, N] of the mixer's scope and adds up to three tensors
  // to the layout, f32 whatever states are kept as: the running means of k and q [N], and the rings and the best.
  Hax(const WeightScope& scope, const HaxDimensions& dimensions, std::int64_t inner, std::int64_t states,
      StateLayout& layout, const std::string& state_name);

  // x [M, E], y [M, E], which takes what is added.
  void add(Step& step, kernels::RowsIn x, kernels::RowsOut y) const;

 private:
  void load_hashes(const WeightScope& scope);
  void load_scores(const WeightScope& scope);
  // features [M, 2N]: k, and the mean of q, whose length becomes 1 -> [M, 1]
  kernels::RowsOut score(Step& step, kernels::RowsOut features) const;

  kernels::HaxAttention attention_;
  kernels::WeightMatrix k_proj_, q_proj_;        // [N, E], halves of xx_proj
  std::array<kernels::WeightMatrix, 2> hidden_;  // [2N, 2N]
  std::array<const float*, 2> hidden_bias_ = {};
  kernels::WeightMatrix score_;  // [1, 2N]
  const float* score_bias_ = nullptr;
  std::vector<float> unit_length_;  // [N]: |x| is sqrt(N) times the root mean square
  std::uint64_t key_mean_offset_ = 0, query_mean_offset_ = 0, attention_offset_ = 0;
};

}  // namespace krait::models
