// The mixer of Mamba with HAX (Zhan et al. 2025, arXiv 2507.00449; models/mixers/hax.h has the equations): before the
// gate, the scan's y takes what sparse attention over the block's own input x gives, x being [E] wide after the
// convolution.
//   [k; q] = W_xx x,  k = k / sqrt(N),  y += E * attention(q, k, x)
// over the most recent keys of the query's hash bucket and the keys of the highest scores, which a small network gives
// to [k; mean of q so far]. Parameters have the published code's names beside those of mamba1_mixer.h, as
// models/mixers/hax.cpp loads them.
// Hashes are drawn once and not learned. Scores learn by a ranking loss of their own (docs/decisions/0016), in batches
// that tell its share in the step.
#pragma once

#include "krait/nn/mamba1_mixer.h"

namespace krait::nn {

struct HaxDimensions {
  Mamba1Dimensions mamba = {};
  std::int64_t hashes = 4;      // bits of a bucket's number
  std::int64_t recent = 8;      // keys of a bucket; 0: no hashing
  std::int64_t selected = 8;    // keys of the highest scores; 0: no selection
  double ranking_weight = 0.1;  // of the ranking loss beside the model's
};

class HaxMixer final : public Mamba1Mixer {
 public:
  explicit HaxMixer(const HaxDimensions& dimensions);

  // The ranking loss of the rows that a pass draws, a function of the scores' parameters alone; with selection only.
  // x [M, E], after the convolution.
  Tensor ranking_loss(const Tensor& x, const Batch& batch) const;

 private:
  // Throws UserError where the batch has prefixes: the tokens to be read are chosen from those before.
  Tensor addition(const Tensor& x, const Batch& batch) const override;

  struct Heads {
    Tensor q, k;  // [M, N]
  };
  Heads heads(const Tensor& x) const;
  // [M, 1], of the parameters of the scores alone: keys and queries are as they are.
  Tensor scores(const Heads& of, const Tensor& query_mean) const;

  Tensor ranking_loss(const Heads& of, const Tensor& key_scores, const Batch& batch) const;

  HaxDimensions dimensions_;
  std::shared_ptr<Dense> xx_proj_, score_hidden_, score_next_, score_;
  Tensor output_scale_, hash_projection_;
};

}  // namespace krait::nn
