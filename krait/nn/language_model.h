// A language model of residual blocks (Gu & Dao 2023): an embedding, layers of pre-norm and mixer, each perhaps
// followed by pre-norm and feed-forward, a last norm and a head, which is the embedding again where they are tied.
//   h = embed(tokens),   h += mixer(rms(h)),   h += feed_forward(rms(h)),   logits = head rms(h)
// Parameters have state-spaces/mamba's names: backbone.embedding.weight, backbone.layers.0.norm.weight,
// backbone.layers.0.mixer.…, backbone.layers.0.norm2.weight, backbone.layers.0.mlp.…, backbone.norm_f.weight,
// lm_head.weight.
#pragma once

#include <functional>
#include <span>

#include "krait/nn/feed_forward.h"
#include "krait/nn/mixer.h"
#include "krait/nn/token_loss.h"

namespace krait::nn {

struct LanguageModelDimensions {
  std::int64_t vocabulary = 0;         // V
  std::int64_t padded_vocabulary = 0;  // rows of the table; 0: V
  std::int64_t width = 0;              // D
  std::int64_t layers = 0;
  std::int64_t feed_forward = 0;  // F, 0: none
  bool tied = true;
  double epsilon = 1e-5;
  double embedding_deviation = 0.02;
};

class LanguageModel final : public torch::nn::Module {
 public:
  // make_mixer(i) is layer i's. What leaves a block (out_proj, fc2) begins smaller by 1/sqrt(number of such), so that
  // the residual stream begins as large in a deep model as in a shallow one.
  LanguageModel(const LanguageModelDimensions& dimensions,
                const std::function<std::shared_ptr<Mixer>(std::int64_t layer)>& make_mixer);

  // [M, D] after the last norm.
  Tensor hidden(std::span<const std::int32_t> tokens, const Batch& batch);
  // [M, V]: for short texts; training does without (token_loss.h).
  Tensor logits(std::span<const std::int32_t> tokens, const Batch& batch);
  TokenLossResult loss(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets, const Batch& batch,
                       std::span<const float> row_weights = {}, double z_factor = 0.0, double divisor = 0.0);

  const LanguageModelDimensions& dimensions() const { return dimensions_; }
  // The table of the head: the embedding where they are tied.
  const Tensor& head() const { return head_; }

 private:
  struct Layer {
    std::shared_ptr<NormWeight> norm, norm2;
    std::shared_ptr<Mixer> mixer;
    std::shared_ptr<FeedForward> feed_forward;
  };

  LanguageModelDimensions dimensions_;
  Tensor embedding_, head_;
  std::vector<Layer> layers_;
  std::shared_ptr<NormWeight> last_norm_;
};

}  // namespace krait::nn
