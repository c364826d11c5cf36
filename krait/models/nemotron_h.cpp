// Nemotron-H (NVIDIA 2025) and its successors with experts: one mixer a layer (Mamba-2, attention without positions,
// squared-ReLU MLP or mixture of experts), each residual += mixer(norm(residual)).
// Checkpoints: NVIDIA's own (names under "backbone."), transformers' ("model.", experts stacked), GGUF ("nemotron_h",
// "nemotron_h_moe"). The layers are spelled in hybrid_override_pattern (M, *, -, E) or named in layers_block_type.
#include "krait/models/nemotron_h.h"

#include "krait/models/architectures.h"

namespace krait::models {
namespace {

std::string read_pattern(WeightLoader& loader) {
  std::string pattern;
  if (loader.config().has("hybrid_override_pattern")) {
    pattern = loader.text_or("hybrid_override_pattern", "");
    // Some files separate pipeline stages.
    std::erase(pattern, '|');
  } else {
    const auto kinds = loader.config().texts("layers_block_type");
    if (!kinds) {
      loader.set_error(kinds.error());
      return {};
    }
    for (const std::string& kind : *kinds) {
      pattern += kind == "mamba" ? 'M' : kind == "attention" ? '*' : kind == "mlp" ? '-' : kind == "moe" ? 'E' : '?';
      if (pattern.back() == '?') {
        loader.set_error({ErrorCode::kUnsupported,
                          fmt::format("[models] layers_block_type has a layer \"{}\", which is none of mamba, "
                                      "attention, mlp, moe ({})",
                                      kind, loader.config().origin())});
      }
    }
  }
  if (const auto wrong = pattern.find_first_not_of("M*-E"); wrong != std::string::npos && !loader.failed()) {
    loader.set_error({ErrorCode::kUnsupported,
                      fmt::format("[models] hybrid_override_pattern has a layer '{}', which is none of M * - E ({})",
                                  pattern[wrong], loader.config().origin())});
  }
  return pattern;
}

void read_mixture(WeightLoader& loader, MixtureDimensions& mixture, std::int64_t width) {
  mixture.width = width;
  mixture.form = FeedForwardForm::kUngated;
  mixture.activation = FeedForwardActivation::kSquaredRelu;
  mixture.scores = RouterScores::kSigmoid;
  if (loader.is_gguf()) {
    mixture.experts = loader.offset_or(gguf_key(loader, "expert_count"), 0);
    mixture.chosen = loader.offset_or(gguf_key(loader, "expert_used_count"), 0);
    mixture.hidden = loader.offset_or(gguf_key(loader, "expert_feed_forward_length"), 0);
    mixture.shared_hidden = loader.offset_or(gguf_key(loader, "expert_shared_feed_forward_length"), 0);
    mixture.latent = loader.offset_or(gguf_key(loader, "moe_latent_size"), 0);
    mixture.renormalise = loader.boolean_or(gguf_key(loader, "expert_weights_norm"), false);
    mixture.groups = std::max<std::int64_t>(1, loader.offset_or(gguf_key(loader, "expert_group_count"), 1));
    mixture.chosen_groups = std::max<std::int64_t>(1, loader.offset_or(gguf_key(loader, "expert_group_used_count"), 1));
    const double scaling = loader.number_or(gguf_key(loader, "expert_weights_scale"), 1.0);
    mixture.scaling = scaling == 0.0 ? 1.0F : static_cast<float>(scaling);
    return;
  }
  mixture.experts = loader.size_or("n_routed_experts", 8);
  mixture.chosen = loader.size_or("num_experts_per_tok", 2);
  mixture.hidden = loader.size("moe_intermediate_size");
  if (loader.offset_or("n_shared_experts", 1) > 0) {
    mixture.shared_hidden = loader.size("moe_shared_expert_intermediate_size");
  }
  mixture.renormalise = loader.boolean_or("norm_topk_prob", true);
  mixture.scaling = static_cast<float>(loader.number_or("routed_scaling_factor", 1.0));
  mixture.groups = loader.size_or("n_group", 1);
  mixture.chosen_groups = loader.size_or("topk_group", 1);
  mixture.latent = loader.offset_or("moe_latent_size", 0);
}

// The letter of a layer.
char kind_of(const NemotronConfig& config, const WeightScope& scope, std::int64_t layer) {
  if (!scope.loader().is_gguf()) return config.pattern[static_cast<std::size_t>(layer)];
  if (scope.has("", "ssm_in.weight")) return 'M';
  if (scope.has("", "attn_q.weight")) return '*';
  return scope.has("", "ffn_gate_inp.weight") ? 'E' : '-';
}

}  // namespace

NemotronConfig read_nemotron_h(WeightLoader& loader) {
  NemotronConfig config;
  if (loader.is_gguf()) {
    config.residual = read_residual(loader, "nemotron_h", "", 1e-5);
  } else {
    config.pattern = read_pattern(loader);
    config.residual.architecture = "nemotron_h";
    config.residual.layers = static_cast<std::int64_t>(config.pattern.size());
    config.residual.width = loader.size("hidden_size");
    config.residual.epsilon = static_cast<float>(loader.number_or("layer_norm_epsilon", 1e-5));
    config.residual.tied = loader.boolean_if_present("tie_word_embeddings");
    if (const std::int64_t layers = loader.size_or("num_hidden_layers", config.residual.layers);
        layers != config.residual.layers) {
      loader.set_error(
          {ErrorCode::kCorrupt, fmt::format("[models] num_hidden_layers is {}, the pattern has {} layers ({})", layers,
                                            config.residual.layers, loader.config().origin())});
    }
  }
  const std::int64_t width = config.residual.width;
  config.attention = read_attention(loader, width);
  if (!loader.is_gguf() && !loader.config().has("head_dim") && loader.config().has("attention_head_dim")) {
    config.attention.head_width = loader.size("attention_head_dim");  // the 4B's key
  }
  if (loader.is_gguf()) {
    config.mamba = read_mamba2(loader, width, config.residual.epsilon);
  } else {
    config.mamba = {.width = width,
                    .heads = loader.size("mamba_num_heads"),
                    .head_width = loader.size_or("mamba_head_dim", 64),
                    .states = loader.size_or("ssm_state_size", 128),
                    .groups = loader.size_or("n_groups", 8),
                    .conv_width = loader.size_or("conv_kernel", 4),
                    .epsilon = config.residual.epsilon};
    read_dt_limits(loader, "time_step_limit", config.mamba);
    config.hidden = loader.size_or("intermediate_size", 1);
    const std::string activation = loader.text_or("mlp_hidden_act", "relu2");
    if (activation != "relu2") {
      loader.set_error({ErrorCode::kUnsupported, fmt::format("[models] mlp_hidden_act is {}, not relu2 ({})",
                                                             activation, loader.config().origin())});
    }
  }
  const bool experts =
      loader.is_gguf() ? loader.offset_or(gguf_key(loader, "expert_count"), 0) > 0 : config.pattern.contains('E');
  if (experts) read_mixture(loader, config.mixture, width);
  return config;
}

std::unique_ptr<Model> load_nemotron_h(WeightLoader& loader) {
  const NemotronConfig config = read_nemotron_h(loader);
  if (loader.failed()) return nullptr;
  const std::int64_t width = config.residual.width;
  const std::string root = loader.has("model.norm_f.weight") ? "model." : "backbone.";
  auto model = std::make_unique<ResidualModel>(
      loader, config.residual, TokenHead::names(loader, root + "embeddings.weight", root + "norm_f.weight"));
  for (std::int64_t i = 0; i < config.residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("{}layers.{}.", root, i), fmt::format("blk.{}.", i));
    const WeightScope inside = scope.inside("mixer.");
    const std::string name = fmt::format("layers.{}", i);
    std::unique_ptr<Mixer> mixer;
    switch (kind_of(config, scope, i)) {
      case 'M': mixer = std::make_unique<Mamba2Mixer>(inside, config.mamba, model->layout(), name); break;
      case '*': mixer = std::make_unique<AttentionMixer>(inside, config.attention, model->layout(), name); break;
      case 'E': {
        const MixtureNames names = {
            .stacked_in = "experts.up_proj", .shared = "shared_experts.", .shared_form = FeedForwardForm::kUngated};
        mixer = std::make_unique<MixtureOfExperts>(inside, config.mixture, names);
        break;
      }
      default: {
        const auto hidden = config.hidden > 1 ? std::optional(config.hidden) : std::nullopt;
        mixer = std::make_unique<FeedForward>(inside, width, hidden, FeedForwardForm::kUngated,
                                              FeedForwardActivation::kSquaredRelu);
      }
    }
    model->add(scope, "norm.weight", "attn_norm.weight", std::move(mixer));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
