// The language model that state-spaces' code wraps round its mixers (MambaLMHeadModel), and transformers after it: a
// mixer in every layer, and an MLP after it where the checkpoint has one. Mamba, FalconMamba, Mamba-2 and Mamba-3
// differ in the mixer alone.
#pragma once

#include <memory>
#include <string>

#include "krait/models/mixers/feed_forward.h"
#include "krait/models/residual_model.h"

namespace krait::models {

// SequenceMixer: constructible from (scope, dimensions, state layout, state name).
template <class SequenceMixer, class Dimensions>
std::unique_ptr<Model> load_backbone(WeightLoader& loader, const ResidualConfig& config, const Dimensions& dimensions) {
  auto model = std::make_unique<ResidualModel>(loader, config, TokenHead::backbone_names(loader));
  const std::string root = loader.has("model.backbone.norm_f.weight") ? "model." : "";
  for (std::int64_t i = 0; i < config.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("{}backbone.layers.{}.", root, i), fmt::format("blk.{}.", i));
    model->add(scope, "norm.weight", "attn_norm.weight",
               std::make_unique<SequenceMixer>(scope.inside("mixer."), dimensions, model->layout(),
                                               fmt::format("layers.{}", i)));
    if (!scope.has("norm2.weight", "ffn_norm.weight")) continue;
    // The original code rounds the configured width up, so the tensor's counts.
    const FeedForwardNames names = {.gate = "", .up = "fc1", .down = "fc2"};
    model->add(scope, "norm2.weight", "ffn_norm.weight",
               std::make_unique<FeedForward>(scope.inside("mlp."), config.width, std::nullopt,
                                             FeedForwardForm::kFusedValueFirst, FeedForwardActivation::kSilu, names));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
