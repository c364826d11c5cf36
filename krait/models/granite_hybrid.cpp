// Granite 4 hybrids (IBM 2025): Mamba-2 layers, a few of attention (mostly without positions), after each an MLP that
// all rows pass, and in larger models a mixture of experts beside it. Multipliers stand on the embedding, on every
// addition to the residual and on the scores; logits are divided.
// Checkpoints: transformers' (model_type granitemoehybrid), GGUF ("granitehybrid", which Bamba is kept as, too).
#include "krait/models/granite_hybrid.h"

#include "krait/models/architectures.h"

namespace krait::models {
namespace {

// 0 stands for "none" in GGUF.
float multiplier(WeightLoader& loader, std::string_view key) {
  const auto value = static_cast<float>(loader.number_or(gguf_key(loader, key), 1.0));
  return value == 0.0F ? 1.0F : value;
}

void read_gguf(WeightLoader& loader, GraniteConfig& config) {
  config.residual.embedding_scale = multiplier(loader, "embedding_scale");
  config.residual.residual_scale = multiplier(loader, "residual_scale");
  config.residual.logit_scale = 1.0F / multiplier(loader, "logit_scale");
  // This key is the switch of positions.
  if (loader.boolean_or(gguf_key(loader, "rope.scaling.finetuned"), true)) {
    config.attention.rotary = read_rotary(loader, config.attention.head_width, 1.0, 10000.0);
    config.attention.rotary.neighbours = true;  // converters permute the rows of q and k to this layout
    if (loader.has("rope_freqs.weight")) {
      config.attention.rotary.divisors = loader.vector("rope_freqs.weight", config.attention.rotary.width / 2);
    }
  }
  MixtureDimensions& mixture = config.mixture;
  mixture.experts = loader.offset_or(gguf_key(loader, "expert_count"), 0);
  mixture.chosen = loader.offset_or(gguf_key(loader, "expert_used_count"), 0);
  const std::int64_t hidden = loader.size(gguf_key(loader, "feed_forward_length"));
  mixture.hidden = hidden;
  mixture.shared_hidden =
      mixture.experts > 0 ? loader.offset_or(gguf_key(loader, "expert_shared_feed_forward_length"), 0) : hidden;
}

void read_transformers(WeightLoader& loader, GraniteConfig& config) {
  config.residual.embedding_scale = static_cast<float>(loader.number_or("embedding_multiplier", 1.0));
  config.residual.residual_scale = static_cast<float>(loader.number_or("residual_multiplier", 1.0));
  const double divisor = loader.number_or("logits_scaling", 1.0);
  if (divisor == 0.0) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] logits_scaling is 0 ({})", loader.config().origin())});
  }
  config.residual.logit_scale = static_cast<float>(1.0 / divisor);
  config.attention.scale = static_cast<float>(loader.number_or("attention_multiplier", 1.0));
  config.attention.biases = loader.boolean_or("attention_bias", false);
  const std::string positions = loader.text_or("position_embedding_type", "rope");
  if (positions == "rope") {
    config.attention.rotary = read_rotary(loader, config.attention.head_width, 1.0, 10000.0);
  } else if (positions != "nope") {
    loader.set_error(
        {ErrorCode::kUnsupported, fmt::format("[models] position_embedding_type is \"{}\", neither rope nor nope ({})",
                                              positions, loader.config().origin())});
  }
  MixtureDimensions& mixture = config.mixture;
  mixture.experts = loader.offset_or("num_local_experts", 0);
  mixture.shared_hidden = loader.size_or("shared_intermediate_size", 1024);
  if (mixture.experts > 0) {
    mixture.chosen = loader.size("num_experts_per_tok");
    mixture.hidden = loader.size("intermediate_size");
  }
  static constexpr std::array<std::string_view, 2> kKinds = {"mamba", "attention"};
  const bool types = loader.config().has("layer_types");
  config.kinds = read_layer_kinds(loader, types ? "layer_types" : "layers_block_type", config.residual.layers, kKinds);
}

// The feed-forward part: experts and the MLP beside them, or the MLP alone.
std::unique_ptr<Mixer> feed_forward(const WeightScope& scope, const GraniteConfig& config) {
  const MixtureDimensions& mixture = config.mixture;
  const bool gguf = scope.loader().is_gguf();
  const FeedForwardForm form = gguf ? FeedForwardForm::kGateUp : FeedForwardForm::kFusedGateFirst;
  FeedForwardNames names = {.gate = "", .up = "input_linear", .down = "output_linear", .gguf_scales = false};
  if (mixture.experts == 0) {
    return std::make_unique<FeedForward>(scope.inside("shared_mlp."), mixture.width, mixture.shared_hidden, form,
                                         FeedForwardActivation::kSilu, names);
  }
  names.gguf_gate = "ffn_gate_shexp";
  names.gguf_up = "ffn_up_shexp";
  names.gguf_down = "ffn_down_shexp";
  return std::make_unique<MixtureOfExperts>(scope, mixture,
                                            MixtureNames{.router = "block_sparse_moe.router.layer.weight",
                                                         .router_bias = "",
                                                         .stacked_in = "block_sparse_moe.input_linear.weight",
                                                         .stacked_down = "block_sparse_moe.output_linear.weight",
                                                         .always_stacked = true,
                                                         .shared = "shared_mlp.",
                                                         .shared_form = form,
                                                         .shared_names = names});
}

}  // namespace

GraniteConfig read_granite(WeightLoader& loader) {
  GraniteConfig config;
  config.residual = read_residual(loader, "granitemoehybrid", "rms_norm_eps", 1e-5);
  config.attention = read_attention(loader, config.residual.width);
  config.mamba = read_mamba2(loader, config.residual.width, config.residual.epsilon);
  if (loader.is_gguf()) {
    read_gguf(loader, config);
  } else {
    read_transformers(loader, config);
  }
  config.mixture.width = config.residual.width;
  config.mixture.renormalise = true;  // softmax over the chosen experts
  return config;
}

std::unique_ptr<Model> load_granite_hybrid(WeightLoader& loader) {
  const GraniteConfig config = read_granite(loader);
  if (loader.failed()) return nullptr;
  auto model = std::make_unique<ResidualModel>(
      loader, config.residual, TokenHead::names(loader, "model.embed_tokens.weight", "model.norm.weight"));
  for (std::int64_t i = 0; i < config.residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("model.layers.{}.", i), fmt::format("blk.{}.", i));
    const std::string name = fmt::format("layers.{}", i);
    const bool attends =
        loader.is_gguf() ? scope.has("", "attn_q.weight") : config.kinds[static_cast<std::size_t>(i)] == "attention";
    std::unique_ptr<Mixer> mixer;
    if (attends) {
      mixer = std::make_unique<AttentionMixer>(scope.inside("self_attn."), config.attention, model->layout(), name);
    } else {
      mixer = std::make_unique<Mamba2Mixer>(scope.inside("mamba."), config.mamba, model->layout(), name);
    }
    model->add(scope, "input_layernorm.weight", "attn_norm.weight", std::move(mixer));
    model->add(scope, "post_attention_layernorm.weight", "ffn_norm.weight", feed_forward(scope, config));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
