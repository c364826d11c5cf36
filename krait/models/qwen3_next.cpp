// Qwen3-Next and Qwen3.5 (Qwen team 2025, 2026), dense and with experts: three layers of the gated delta rule, then one
// of attention with a gate on its output, and so on. Norms store w - 1, but for the gated one.
// Checkpoints: transformers' (model_type qwen3_next, qwen3_5, qwen3_5_moe; those of models that also see stand under
// "model.language_model." and their configuration under text_config), GGUF ("qwen3next", with 1 added to its norms).
#include "krait/models/qwen3_next.h"

#include "krait/models/architectures.h"

namespace krait::models {
namespace {

void read_gguf(WeightLoader& loader, QwenConfig& config) {
  GatedDeltaDimensions& delta = config.delta;
  delta.key_heads = loader.size(gguf_key(loader, "ssm.group_count"));
  delta.value_heads = loader.size(gguf_key(loader, "ssm.time_step_rank"));
  delta.key_width = loader.size(gguf_key(loader, "ssm.state_size"));
  const std::int64_t inner = loader.size(gguf_key(loader, "ssm.inner_size"));
  if (inner % delta.value_heads != 0) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] ssm.inner_size {} does not divide into {} heads ({})",
                                                       inner, delta.value_heads, loader.config().origin())});
    return;
  }
  delta.value_width = inner / delta.value_heads;
  delta.conv_width = loader.size(gguf_key(loader, "ssm.conv_kernel"));
  MixtureDimensions& mixture = config.mixture;
  config.hidden = loader.offset_or(gguf_key(loader, "feed_forward_length"), 0);
  mixture.experts = loader.offset_or(gguf_key(loader, "expert_count"), 0);
  mixture.chosen = loader.offset_or(gguf_key(loader, "expert_used_count"), 0);
  mixture.hidden = loader.offset_or(gguf_key(loader, "expert_feed_forward_length"), 0);
  mixture.shared_hidden = loader.offset_or(gguf_key(loader, "expert_shared_feed_forward_length"), 0);
  if (mixture.shared_hidden == 0) mixture.shared_hidden = config.hidden;
  const double scaling = loader.number_or(gguf_key(loader, "expert_weights_scale"), 1.0);
  mixture.scaling = scaling == 0.0 ? 1.0F : static_cast<float>(scaling);
  mixture.renormalise = true;
}

void read_transformers(WeightLoader& loader, QwenConfig& config, const std::string& prefix) {
  const auto key = [&](std::string_view name) { return fmt::format("{}{}", prefix, name); };
  GatedDeltaDimensions& delta = config.delta;
  delta.key_heads = loader.size_or(key("linear_num_key_heads"), 16);
  delta.value_heads = loader.size_or(key("linear_num_value_heads"), 32);
  delta.key_width = loader.size_or(key("linear_key_head_dim"), 128);
  delta.value_width = loader.size_or(key("linear_value_head_dim"), 128);
  delta.conv_width = loader.size_or(key("linear_conv_kernel_dim"), 4);
  if (loader.config().has(key("layer_types"))) {
    static constexpr std::array<std::string_view, 2> kKinds = {"linear_attention", "full_attention"};
    for (const std::string& kind : read_layer_kinds(loader, key("layer_types"), config.residual.layers, kKinds)) {
      config.attends.push_back(kind == "full_attention");
    }
  } else {
    const std::int64_t interval = loader.size_or(key("full_attention_interval"), 4);
    for (std::int64_t i = 0; i < config.residual.layers; ++i) config.attends.push_back((i + 1) % interval == 0);
  }
  MixtureDimensions& mixture = config.mixture;
  mixture.experts = loader.offset_or(key("num_experts"), 0);
  if (mixture.experts == 0) {
    config.hidden = loader.size(key("intermediate_size"));
    return;
  }
  mixture.chosen = loader.size(key("num_experts_per_tok"));
  mixture.hidden = loader.size(key("moe_intermediate_size"));
  mixture.shared_hidden = loader.offset_or(key("shared_expert_intermediate_size"), 0);
  mixture.renormalise = loader.boolean_or(key("norm_topk_prob"), true);
  const auto dense = loader.config().integers(key("mlp_only_layers"));
  if (loader.size_or(key("decoder_sparse_step"), 1) != 1 || (dense && !dense->empty())) {
    loader.set_error(
        {ErrorCode::kUnsupported,
         fmt::format("[models] decoder_sparse_step other than 1 or mlp_only_layers: experts in some layers "
                     "alone are not known ({})",
                     loader.config().origin())});
  }
}

std::unique_ptr<Mixer> feed_forward(const WeightScope& scope, const QwenConfig& config) {
  if (config.mixture.experts == 0) {
    return std::make_unique<FeedForward>(scope, config.residual.width, config.hidden, FeedForwardForm::kGateUp,
                                         FeedForwardActivation::kSilu);
  }
  return std::make_unique<MixtureOfExperts>(scope, config.mixture);
}

}  // namespace

QwenConfig read_qwen3_next(WeightLoader& loader) {
  const std::string prefix = loader.config().has("text_config.hidden_size") ? "text_config." : "";
  QwenConfig config;
  const std::string architecture = loader.is_gguf() ? "qwen3_next" : loader.text_or("model_type", "");
  config.residual = read_residual(loader, architecture, "rms_norm_eps", 1e-6, prefix);
  config.residual.norms_from_one = !loader.is_gguf();
  const std::int64_t width = config.residual.width;
  config.attention = read_attention(loader, width, prefix);
  config.attention.rotary = read_rotary(loader, config.attention.head_width, 0.25, 1e7, prefix);
  config.attention.norms = true;
  config.attention.norms_from_one = !loader.is_gguf();
  config.attention.norm_epsilon = config.residual.epsilon;
  config.attention.output_gate = true;
  config.attention.biases = !loader.is_gguf() && loader.boolean_or(prefix + "attention_bias", false);
  config.delta.width = width;
  config.delta.epsilon = config.residual.epsilon;
  config.delta.interleaved = architecture == "qwen3_next";
  if (loader.is_gguf()) {
    read_gguf(loader, config);
  } else {
    read_transformers(loader, config, prefix);
  }
  config.mixture.width = width;
  config.mixture.shared_gate = true;
  return config;
}

std::unique_ptr<Model> load_qwen3_next(WeightLoader& loader) {
  const QwenConfig config = read_qwen3_next(loader);
  if (loader.failed()) return nullptr;
  const std::string root = loader.has("model.language_model.norm.weight") ? "model.language_model." : "model.";
  auto model = std::make_unique<ResidualModel>(
      loader, config.residual, TokenHead::names(loader, root + "embed_tokens.weight", root + "norm.weight"));
  for (std::int64_t i = 0; i < config.residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("{}layers.{}.", root, i), fmt::format("blk.{}.", i));
    const std::string name = fmt::format("layers.{}", i);
    std::unique_ptr<Mixer> mixer;
    if (loader.is_gguf() ? scope.has("", "attn_q.weight") : config.attends[static_cast<std::size_t>(i)]) {
      mixer = std::make_unique<AttentionMixer>(scope.inside("self_attn."), config.attention, model->layout(), name);
    } else {
      mixer = std::make_unique<GatedDeltaMixer>(scope.inside("linear_attn."), config.delta, model->layout(), name);
    }
    model->add(scope, "input_layernorm.weight", "attn_norm.weight", std::move(mixer));
    model->add(scope, "post_attention_layernorm.weight", "post_attention_norm.weight",
               feed_forward(scope.inside("mlp."), config));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
