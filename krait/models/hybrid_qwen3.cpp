// Qwen3 with other mixers in the place of attention (Hybrid Model Factory, Zancato et al. 2026): every layer is a mixer
// and an MLP, and "hybrid_override_pattern", one word a layer with dashes between them, says which mixer.
//   *     attention over all tokens        SWA   over the last swa_config.window_size
//   M2    Mamba-2 with shared heads        GDN   Gated DeltaNet with shared heads
//   BMF   B'MOJO-F: an SSM and a window of bmojo_config.window_size, under one softmax
// Sizes of all mixers are those of the attention that they replace. bmojo_config.eidetic_size is krait's own: tokens in
// an eidetic store beside the window (mixers/bmojo.h), 0 where it is missing, as in all published models.
// Checkpoints: that project's (model_type hybrid_qwen3), in transformers' layout.
#include <array>

#include "krait/models/architectures.h"
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/bmojo.h"
#include "krait/models/mixers/feed_forward.h"
#include "krait/models/mixers/gated_delta.h"

namespace krait::models {
namespace {

constexpr std::array<std::string_view, 5> kMixers = {"*", "M2", "GDN", "BMF", "SWA"};

struct HybridQwen3Config {
  ResidualConfig residual;
  AttentionDimensions attention;
  Mamba2Dimensions mamba;
  GatedDeltaDimensions delta;
  BmojoDimensions bmojo;
  std::string ssm;  // of B'MOJO: M2 or GDN
  std::int64_t window = 0;
  std::int64_t hidden = 0;
  std::vector<std::string> mixers;
};

void refuse(WeightLoader& loader, std::string message) {
  loader.set_error(
      {ErrorCode::kUnsupported, fmt::format("[models] {} ({})", std::move(message), loader.config().origin())});
}

std::vector<std::string> read_pattern(WeightLoader& loader, std::int64_t layers) {
  const std::string pattern = loader.text_or("hybrid_override_pattern", "");
  if (pattern.empty()) {
    loader.set_error({ErrorCode::kCorrupt,
                      fmt::format("[models] hybrid_override_pattern is missing ({})", loader.config().origin())});
  }
  std::vector<std::string> mixers;
  for (std::size_t at = 0; at <= pattern.size();) {
    const std::size_t end = std::min(pattern.find('-', at), pattern.size());
    mixers.push_back(pattern.substr(at, end - at));
    at = end + 1;
  }
  for (std::size_t i = 0; i < mixers.size(); ++i) {
    if (mixers[i] == "GKA") {
      refuse(loader, fmt::format("layer {} of hybrid_override_pattern is GKA: Gated KalmaNet is not known", i));
    } else if (std::ranges::find(kMixers, mixers[i]) == kMixers.end()) {
      refuse(loader, fmt::format("layer {} of hybrid_override_pattern is \"{}\", which is none of *, M2, GDN, BMF, SWA",
                                 i, mixers[i]));
    }
  }
  if (static_cast<std::int64_t>(mixers.size()) != layers) {
    loader.set_error({ErrorCode::kCorrupt,
                      fmt::format("[models] hybrid_override_pattern has {} layers, num_hidden_layers is {} ({})",
                                  mixers.size(), layers, loader.config().origin())});
  }
  return mixers;
}

void read_delta(WeightLoader& loader, HybridQwen3Config& config) {
  const AttentionDimensions& attention = config.attention;
  config.delta = {.width = attention.width,
                  .key_heads = attention.heads,
                  .value_heads = attention.heads,
                  .key_width = attention.head_width,
                  .value_width = attention.head_width,
                  .conv_width = loader.size_or("gdn_config.conv_size", 4),
                  .shared_heads = attention.key_heads,
                  .beta_factor = loader.boolean_or("gdn_config.allow_neg_eigval", false) ? 2.0F : 1.0F,
                  .epsilon = static_cast<float>(loader.number_or("gdn_config.norm_eps", 1e-5)),
                  .apart = true};
  for (const auto& [key, known] : {std::pair{"use_gate", true},
                                   {"use_short_conv", true},
                                   {"conv_bias", false},
                                   {"kv_learnable_residual", false}}) {
    const std::string name = fmt::format("gdn_config.{}", key);
    if (loader.boolean_or(name, known) != known)
      refuse(loader, fmt::format("{} is {}: only {} is known", name, !known, known));
  }
  if (loader.config().integer("gdn_config.kv_proj_rank")) {
    refuse(loader, "gdn_config.kv_proj_rank is set: heads of keys and values are known as repeated alone");
  }
}

void read_bmojo(WeightLoader& loader, HybridQwen3Config& config) {
  config.bmojo.attention = config.attention;
  config.bmojo.attention.window = loader.size_or("bmojo_config.window_size", 2048);
  config.bmojo.tied = loader.boolean_or("bmojo_config.tie_attn_weights", true);
  config.bmojo.eidetic = loader.offset_or("bmojo_config.eidetic_size", 0);
  const std::string ssm = loader.text_or("bmojo_config.ssm_mixer", "mamba2");
  if (ssm == "mamba2") {
    config.ssm = "M2";
  } else if (ssm == "gdn" || ssm == "gated_deltanet") {
    config.ssm = "GDN";
  } else {
    refuse(loader, fmt::format("bmojo_config.ssm_mixer is {}: mamba2 and gdn are known", ssm));
  }
}

HybridQwen3Config read_config(WeightLoader& loader) {
  HybridQwen3Config config;
  config.residual = read_residual(loader, "hybrid_qwen3", "rms_norm_eps", 1e-6);
  config.hidden = loader.size("intermediate_size");
  AttentionDimensions& attention = config.attention;
  attention = read_attention(loader, config.residual.width);
  if (!loader.config().has("head_dim")) attention.head_width = 128;  // not the width divided, here
  // Heads as large as sizes may be, and as many, would make states of which no number of bytes can be told.
  if (attention.heads * attention.head_width > (std::int64_t{1} << 24)) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] {} heads of {} are no width ({})", attention.heads,
                                                       attention.head_width, loader.config().origin())});
  }
  attention.rotary = read_rotary(loader, attention.head_width, 1.0, 1e4);
  attention.norms = true;
  attention.norm_epsilon = config.residual.epsilon;
  attention.biases = loader.boolean_or("attention_bias", false);
  const std::string activation = loader.text_or("hidden_act", "silu");
  if (activation != "silu") refuse(loader, fmt::format("hidden_act is {}: only silu is known", activation));

  config.mamba = {.width = attention.width,
                  .heads = attention.heads,
                  .head_width = attention.head_width,
                  .states = attention.head_width,
                  .groups = attention.heads,
                  .shared_heads = attention.key_heads,
                  .state_norms = loader.boolean_or("mamba2_config.use_qk_norm", true)};
  if (loader.boolean_or("mamba2_config.use_pos_emb", false)) config.mamba.rotary = attention.rotary;
  config.mixers = read_pattern(loader, config.residual.layers);
  const auto uses = [&](std::string_view mixer) {
    return std::ranges::find(config.mixers, mixer) != config.mixers.end();
  };
  if (uses("BMF")) read_bmojo(loader, config);
  if (uses("GDN") || config.ssm == "GDN") read_delta(loader, config);
  if (uses("SWA")) config.window = loader.size("swa_config.window_size");
  return config;
}

// An SSM under the name that layers and B'MOJO give it alike.
std::unique_ptr<Mixer> make_ssm(const WeightScope& scope, const HybridQwen3Config& config, std::string_view kind,
                                StateLayout& layout, const std::string& name) {
  if (kind == "GDN") return std::make_unique<GatedDeltaMixer>(scope.inside("gdn."), config.delta, layout, name);
  return std::make_unique<Mamba2Mixer>(scope.inside("mamba."), config.mamba, layout, name);
}

std::unique_ptr<Mixer> make_mixer(const WeightScope& scope, const HybridQwen3Config& config, std::string_view kind,
                                  StateLayout& layout, const std::string& name) {
  if (kind == "M2" || kind == "GDN") return make_ssm(scope, config, kind, layout, name);
  if (kind == "BMF") {
    const WeightScope inside = scope.inside("bmojo_f.");
    auto ssm = make_ssm(inside, config, config.ssm, layout, name);
    return std::make_unique<BmojoMixer>(inside.inside("bmojo_attn."), config.bmojo, std::move(ssm), layout, name);
  }
  AttentionDimensions attention = config.attention;
  if (kind == "SWA") attention.window = config.window;
  return std::make_unique<AttentionMixer>(scope.inside(kind == "SWA" ? "swa." : "self_attn."), attention, layout, name);
}

}  // namespace

std::unique_ptr<Model> load_hybrid_qwen3(WeightLoader& loader) {
  const HybridQwen3Config config = read_config(loader);
  if (loader.failed()) return nullptr;
  auto model = std::make_unique<ResidualModel>(
      loader, config.residual, TokenHead::names(loader, "model.embed_tokens.weight", "model.norm.weight"));
  for (std::int64_t i = 0; i < config.residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("model.layers.{}.", i), "");
    const std::string name = fmt::format("layers.{}", i);
    model->add(scope, "input_layernorm.weight", "",
               make_mixer(scope, config, config.mixers[static_cast<std::size_t>(i)], model->layout(), name));
    model->add(scope, "post_attention_layernorm.weight", "",
               std::make_unique<FeedForward>(scope.inside("mlp."), config.residual.width, config.hidden,
                                             FeedForwardForm::kGateUp, FeedForwardActivation::kSilu));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
