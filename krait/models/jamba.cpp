// Jamba (Lieber et al. 2024): Mamba-1 with weighted norms on dt, B and C, attention without positions every few
// layers, and after each an MLP or a mixture of experts whose chosen weights are not renormalised.
// Checkpoints: transformers' (attn_layer_period, expert_layer_period), GGUF ("jamba").
#include "krait/models/jamba.h"

#include "krait/models/architectures.h"

namespace krait::models {

JambaConfig read_jamba(WeightLoader& loader) {
  JambaConfig config;
  config.residual = read_residual(loader, "jamba", "rms_norm_eps", 1e-6);
  const std::int64_t width = config.residual.width;
  config.attention = read_attention(loader, width);
  config.attention.biases = loader.is_gguf();
  config.attention.output_bias = false;
  Mamba1Dimensions& mamba = config.mamba;
  mamba.width = width;
  mamba.inner_norms = Mamba1Dimensions::InnerNorms::kWeighted;
  mamba.inner_epsilon = config.residual.epsilon;
  if (loader.is_gguf()) {
    mamba.inner = loader.size(gguf_key(loader, "ssm.inner_size"));
    mamba.states = loader.size(gguf_key(loader, "ssm.state_size"));
    mamba.conv_width = loader.size(gguf_key(loader, "ssm.conv_kernel"));
    mamba.dt_rank = loader.size(gguf_key(loader, "ssm.time_step_rank"));
    config.hidden = loader.size(gguf_key(loader, "feed_forward_length"));
  } else {
    mamba.inner = loader.size_or("mamba_expand", 2) * width;
    mamba.states = loader.size_or("mamba_d_state", 16);
    mamba.conv_width = loader.size_or("mamba_d_conv", 4);
    const std::int64_t automatic = (width + 15) / 16;
    mamba.dt_rank =
        loader.config().text("mamba_dt_rank").has_value() ? automatic : loader.size_or("mamba_dt_rank", automatic);
    config.hidden = loader.size("intermediate_size");
    config.attention_period = loader.size_or("attn_layer_period", 8);
    config.attention_offset = loader.offset_or("attn_layer_offset", 4);
    config.expert_period = loader.size_or("expert_layer_period", 2);
    config.expert_offset = loader.offset_or("expert_layer_offset", 1);
  }
  MixtureDimensions& mixture = config.mixture;
  mixture.width = width;
  mixture.hidden = config.hidden;
  if (loader.is_gguf()) {
    mixture.experts = loader.offset_or(gguf_key(loader, "expert_count"), 0);
    mixture.chosen = loader.offset_or(gguf_key(loader, "expert_used_count"), 0);
  } else {
    mixture.experts = loader.size_or("num_experts", 16);
    mixture.chosen = loader.size_or("num_experts_per_tok", 2);
  }
  return config;
}

std::unique_ptr<Model> load_jamba(WeightLoader& loader) {
  const JambaConfig config = read_jamba(loader);
  if (loader.failed()) return nullptr;
  const std::int64_t width = config.residual.width;
  auto model = std::make_unique<ResidualModel>(
      loader, config.residual, TokenHead::names(loader, "model.embed_tokens.weight", "model.final_layernorm.weight"));
  for (std::int64_t i = 0; i < config.residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("model.layers.{}.", i), fmt::format("blk.{}.", i));
    const std::string name = fmt::format("layers.{}", i);
    const bool attends =
        loader.is_gguf() ? scope.has("", "attn_q.weight") : i % config.attention_period == config.attention_offset;
    std::unique_ptr<Mixer> mixer;
    if (attends) {
      mixer = std::make_unique<AttentionMixer>(scope.inside("self_attn."), config.attention, model->layout(), name);
    } else {
      mixer = std::make_unique<Mamba1Mixer>(scope.inside("mamba."), config.mamba, model->layout(), name);
    }
    model->add(scope, "input_layernorm.weight", "attn_norm.weight", std::move(mixer));

    const WeightScope inside = scope.inside("feed_forward.");
    // A single expert stands as an MLP.
    const bool experts = loader.is_gguf()
                             ? scope.has("", "ffn_gate_inp.weight")
                             : config.mixture.experts > 1 && i % config.expert_period == config.expert_offset;
    std::unique_ptr<Mixer> feed_forward;
    if (experts) {
      feed_forward =
          std::make_unique<MixtureOfExperts>(inside, config.mixture, MixtureNames{.router = "router.weight"});
    } else {
      feed_forward =
          std::make_unique<FeedForward>(inside, width, config.hidden, FeedForwardForm::kGateUp,
                                        FeedForwardActivation::kSilu, FeedForwardNames{.gguf_scales = false});
    }
    model->add(scope, "pre_ff_layernorm.weight", "ffn_norm.weight", std::move(feed_forward));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
