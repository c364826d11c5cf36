// Bamba (IBM 2024): Mamba-2 layers, a few of attention with rotary positions on half of each head, an MLP after each.
// Checkpoints: transformers' (attn_layer_indices); llama.cpp keeps Bamba as a "granitehybrid".
#include "krait/models/architectures.h"
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/feed_forward.h"

namespace krait::models {

std::unique_ptr<Model> load_bamba(WeightLoader& loader) {
  const ResidualConfig residual = read_residual(loader, "bamba", "rms_norm_eps", 1e-5);
  const std::int64_t width = residual.width;
  AttentionDimensions attention = read_attention(loader, width);
  attention.rotary = read_rotary(loader, attention.head_width, 0.5, 10000.0);
  attention.biases = loader.boolean_or("attention_bias", false);
  const Mamba2Dimensions mamba = read_mamba2(loader, width, residual.epsilon);
  const std::int64_t hidden = loader.size("intermediate_size");
  // Without the list every layer is Mamba.
  const std::vector<bool> attends = read_layer_set(loader, "attn_layer_indices", residual.layers);
  if (loader.failed()) return nullptr;
  auto model = std::make_unique<ResidualModel>(
      loader, residual, TokenHead::names(loader, "model.embed_tokens.weight", "model.final_layernorm.weight"));
  for (std::int64_t i = 0; i < residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("model.layers.{}.", i), "");
    const std::string name = fmt::format("layers.{}", i);
    std::unique_ptr<Mixer> mixer;
    if (attends[static_cast<std::size_t>(i)]) {
      mixer = std::make_unique<AttentionMixer>(scope.inside("self_attn."), attention, model->layout(), name);
    } else {
      mixer = std::make_unique<Mamba2Mixer>(scope.inside("mamba."), mamba, model->layout(), name);
    }
    model->add(scope, "input_layernorm.weight", "", std::move(mixer));
    model->add(scope, "pre_ff_layernorm.weight", "",
               std::make_unique<FeedForward>(scope.inside("feed_forward."), width, hidden, FeedForwardForm::kGateUp,
                                             FeedForwardActivation::kSilu));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
