// The language model that state-spaces' code wraps round its mixers (MambaLMHeadModel), and transformers after it:
//   embedding; every layer: residual += mixer(norm(residual)), and where the checkpoint has an MLP,
//   residual += mlp(norm2(residual)); norm_f; head.   The residual is f32 throughout.
// Mamba, FalconMamba and Mamba-2 differ in the mixer alone. Hybrids have models of their own.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "krait/kernels/norm.h"
#include "krait/models/mixers/gated_mlp.h"
#include "krait/models/model.h"
#include "krait/models/token_head.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct BackboneConfig {
  std::string architecture;
  std::int64_t layers = 0;
  std::int64_t width = 0;  // D
  float epsilon = 1e-5F;
  std::optional<bool> tied;  // head and embedding, where the configuration says so
};

// Mixer: constructible from (scope, dimensions, state layout, state name), with forward(step, u, out).
template <class Mixer>
class Backbone final : public Model {
 public:
  template <class Dimensions>
  Backbone(WeightLoader& loader, BackboneConfig config, const Dimensions& dimensions)
      : config_(std::move(config)),
        head_(loader, TokenHead::backbone_names(loader), config_.width, config_.epsilon, config_.tied) {
    const std::string root = loader.has("model.backbone.norm_f.weight") ? "model." : "";
    for (std::int64_t i = 0; i < config_.layers && !loader.failed(); ++i) {
      const WeightScope scope(loader, fmt::format("{}backbone.layers.{}.", root, i), fmt::format("blk.{}.", i));
      Layer& layer = layers_.emplace_back(
          Layer{scope.vector("norm.weight", "attn_norm.weight", config_.width),
                Mixer(scope.inside("mixer."), dimensions, state_layout_, fmt::format("layers.{}", i))});
      if (scope.has("norm2.weight", "ffn_norm.weight")) {
        layer.mlp_norm = scope.vector("norm2.weight", "ffn_norm.weight", config_.width);
        layer.mlp.emplace(scope.inside("mlp."), config_.width);
      }
    }
    info_.architecture = config_.architecture;
    info_.layers = config_.layers;
    info_.width = config_.width;
    info_.vocabulary = head_.vocabulary();
    weights_ = loader.finish(info_);
  }

  void forward(Step& step, kernels::RowsOut logits) const override {
    ThreadPool& pool = step.pool();
    const kernels::RowsOut residual = step.rows(config_.width);  // [M, D]
    const kernels::RowsOut delta = step.rows(config_.width);     // what the block before adds to it
    const kernels::RowsOut hidden = step.rows(config_.width);
    head_.embed(step, residual);
    step.lap_rows("embedding", config_.width);
    bool first = true;
    for (const Layer& layer : layers_) {
      if (first) {
        kernels::rms_norm(pool, residual, layer.norm, config_.epsilon, hidden);
      } else {
        kernels::add_rms_norm(pool, residual, delta, layer.norm, config_.epsilon, hidden);
      }
      first = false;
      step.lap_rows("norm", 2 * config_.width);
      layer.mixer.forward(step, hidden, delta);
      if (layer.mlp) {
        kernels::add_rms_norm(pool, residual, delta, layer.mlp_norm, config_.epsilon, hidden);
        step.lap_rows("norm", 2 * config_.width);
        layer.mlp->forward(step, hidden, delta);
      }
    }
    head_.logits(step, residual, delta, logits);
  }

 private:
  struct Layer {
    const float* norm;
    Mixer mixer;
    const float* mlp_norm = nullptr;
    std::optional<GatedMlp> mlp = std::nullopt;
  };

  BackboneConfig config_;
  TokenHead head_;
  std::vector<Layer> layers_;
  LoadedWeights weights_;
};

}  // namespace krait::models
