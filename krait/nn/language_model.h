// A language model of residual blocks (Gu & Dao 2023): an embedding, layers of pre-norm and mixer, each perhaps
// followed by pre-norm and feed-forward, a last norm and a head, which is the embedding again where they are tied.
//   h = embed(tokens),   h += mixer(rms(h)),   h += feed_forward(rms(h)),   logits = head rms(h)
// Parameters have state-spaces/mamba's names: backbone.embedding.weight, backbone.layers.0.norm.weight,
// backbone.layers.0.mixer.…, backbone.layers.0.norm2.weight, backbone.layers.0.mlp.…, backbone.norm_f.weight,
// lm_head.weight.
#pragma once

#include <functional>
#include <span>
#include <string>

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

// What goes from layer to layer: the residual stream, and what the last block adds to it; nothing before the first.
struct LayerStream {
  Tensor residual, delta;
};

// Who keeps parameters elsewhere than in memory. A model is read part by part: the embedding, one layer after the
// other, then the last norm with the head.
class ParameterKeeper {
 public:
  virtual ~ParameterKeeper() = default;
  // `part` is about to be read, and `next` after it (-1: none). UserError where its parameters cannot be had.
  virtual void fetch(std::int64_t part, std::int64_t next) = 0;
  virtual void leave(std::int64_t part) = 0;
};

class LanguageModel final : public torch::nn::Module {
 public:
  // Told of each module as soon as it is there, with what comes before its parameters' names.
  using MadePart = std::function<void(const torch::nn::Module& module, const std::string& prefix)>;

  // make_mixer(i) is layer i's. What leaves a block (out_proj, fc2) begins smaller by 1/sqrt(number of such), so that
  // the residual stream begins as large in a deep model as in a shallow one.
  LanguageModel(const LanguageModelDimensions& dimensions,
                const std::function<std::shared_ptr<Mixer>(std::int64_t layer)>& make_mixer, const MadePart& made = {});

  // [M, D] after the last norm.
  Tensor hidden(std::span<const std::int32_t> tokens, const Batch& batch);
  // [M, V]: for short texts; training does without (token_loss.h).
  Tensor logits(std::span<const std::int32_t> tokens, const Batch& batch);
  // The options' vocabulary is the model's own.
  TokenLossResult loss(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets, const Batch& batch,
                       std::span<const float> row_weights = {}, TokenLossOptions options = {}, double divisor = 0.0);

  // The same in its parts, for those who do something in between (train/layered_gradients.h).
  LayerStream begin(std::span<const std::int32_t> tokens);
  LayerStream layer(std::int64_t i, const LayerStream& before, const Batch& batch);
  Tensor end(LayerStream last);
  TokenLossResult head_loss(LayerStream last, std::span<const std::int32_t> targets,
                            std::span<const float> row_weights = {}, TokenLossOptions options = {},
                            double divisor = 0.0);

  std::int64_t parts() const { return dimensions_.layers + 2; }
  // Which part a parameter of this name belongs to. The head's part also reads the embedding where they are tied.
  std::int64_t part_of(const std::string& name) const;
  // Then hidden(), logits() and loss() are for evaluation alone, since gradients would need all parts at once. Must
  // outlive the model or be set to null.
  void set_keeper(ParameterKeeper* keeper) { keeper_ = keeper; }
  ParameterKeeper* keeper() const { return keeper_; }

  const LanguageModelDimensions& dimensions() const { return dimensions_; }
  // The table of the head: the embedding where they are tied.
  const Tensor& head() const { return head_; }

 private:
  struct Layer {
    std::shared_ptr<NormWeight> norm, norm2;
    std::shared_ptr<Mixer> mixer;
    std::shared_ptr<FeedForward> feed_forward;
  };

  Tensor next_norm(LayerStream& stream, const NormWeight& norm) const;
  // The stream before the last norm, with the keeper told of each part.
  LayerStream through_layers(std::span<const std::int32_t> tokens, const Batch& batch);

  LanguageModelDimensions dimensions_;
  ParameterKeeper* keeper_ = nullptr;
  Tensor embedding_, head_;
  std::vector<Layer> layers_;
  std::shared_ptr<NormWeight> last_norm_;
};

}  // namespace krait::nn
