#include "krait/models/gguf_checkpoint.h"

#include <fmt/ranges.h>

#include <array>
#include <string>

#include "krait/models/falcon_h1.h"
#include "krait/models/gguf_parts.h"
#include "krait/models/granite_hybrid.h"
#include "krait/models/lfm2.h"
#include "krait/models/nemotron_h.h"
#include "krait/models/qwen3_next.h"
#include "krait/models/registry.h"

namespace krait::models {
namespace {

using namespace gguf;  // a translation reads like a list of parts

std::string layer(std::string_view prefix, std::int64_t i) { return fmt::format("{}layers.{}.", prefix, i); }
std::string block(std::int64_t i) { return fmt::format("blk.{}.", i); }

// Which layers of a GGUF in the making attend.
std::vector<bool> attending(const GgufBuilder& g, std::int64_t layers, std::string_view query) {
  std::vector<bool> result;
  for (std::int64_t i = 0; i < layers; ++i) result.push_back(g.has(fmt::format(fmt::runtime(query), i)));
  return result;
}

void translate_mamba(GgufBuilder& g, WeightLoader& loader) {
  ResidualConfig config = read_residual(loader, "mamba", "layer_norm_epsilon", 1e-5);
  config.tied = loader.boolean_or("tie_word_embeddings", false);
  ends(g, config, "backbone.embeddings.weight", "backbone.norm_f.weight", "output_norm.weight");
  for (std::int64_t i = 0; i < config.layers && !g.failed(); ++i) {
    g.vector(layer("backbone.", i) + "norm.weight", block(i) + "attn_norm.weight");
    mamba1(g, layer("backbone.", i) + "mixer.", block(i));
  }
  if (g.failed()) return;
  const Shape& a = g.source().find("backbone.layers.0.mixer.A_log")->shape;
  const Shape& dt = g.source().find("backbone.layers.0.mixer.dt_proj.weight")->shape;
  const Shape& conv = g.source().find("backbone.layers.0.mixer.conv1d.weight")->shape;
  if (a.size() != 2 || dt.size() != 2 || a[0] != 2 * config.width) {
    return g.refuse(ErrorCode::kUnsupported,
                    fmt::format("a mamba there is twice as wide inside: {} and {}", config.width, a.front()));
  }
  g.set("ssm.conv_kernel", conv.back());
  g.set("ssm.inner_size", a[0]);
  g.set("ssm.state_size", a[1]);
  g.set("ssm.time_step_rank", dt[1]);
  g.set("ssm.dt_b_c_rms", false);
  // Neither has anything of a transformer; llama.cpp asks all the same.
  g.set("feed_forward_length", std::int64_t{0});
  g.set("attention.head_count", std::int64_t{0});
}

void translate_mamba2(GgufBuilder& g, WeightLoader& loader) {
  ResidualConfig config = read_residual(loader, "mamba2", "layer_norm_epsilon", 1e-5);
  config.tied = loader.boolean_or("tie_word_embeddings", false);
  const Mamba2Dimensions mixer = read_mamba2_transformers(loader);
  if (loader.failed()) return;
  if (!mixer.gated_norm) g.refuse(ErrorCode::kUnsupported, "a mamba2 there has a norm: rms_norm false");
  ends(g, config, "backbone.embeddings.weight", "backbone.norm_f.weight", "output_norm.weight");
  for (std::int64_t i = 0; i < config.layers && !g.failed(); ++i) {
    g.vector(layer("backbone.", i) + "norm.weight", block(i) + "attn_norm.weight");
    mamba2(g, mixer, layer("backbone.", i) + "mixer.", block(i));
  }
  mamba2_keys(g, mixer);
  g.set("feed_forward_length", std::int64_t{0});
  g.set("attention.head_count", std::int64_t{0});
}

void translate_jamba(GgufBuilder& g, WeightLoader& loader) {
  const ResidualConfig config = read_residual(loader, "jamba", "rms_norm_eps", 1e-6);
  const AttentionDimensions heads = read_attention(loader, config.width);
  ends(g, config, "model.embed_tokens.weight", "model.final_layernorm.weight", "output_norm.weight");
  const std::int64_t count = loader.size_or("num_experts", 16);
  const auto attends = attending(g, config.layers, "model.layers.{}.self_attn.q_proj.weight");
  std::string some_mamba;
  for (std::int64_t i = 0; i < config.layers && !g.failed(); ++i) {
    const std::string from = layer("model.", i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight");
    if (attends[static_cast<std::size_t>(i)]) {
      attention(g, heads, from + "self_attn.", to);
    } else {
      some_mamba = from + "mamba.";
      mamba1(g, some_mamba, to);
    }
    g.vector(from + "pre_ff_layernorm.weight", to + "ffn_norm.weight");
    const std::string inside = from + "feed_forward.";
    if (g.has(inside + "router.weight")) {
      g.matrix(inside + "router.weight", to + "ffn_gate_inp.weight");
      experts(g, count, inside, to, true);
    } else {
      mlp(g, inside, to);
    }
  }
  if (g.failed()) return;
  attention_keys(g, heads, attends);
  g.set("feed_forward_length", loader.size("intermediate_size"));
  g.set("expert_count", count);
  g.set("expert_used_count", loader.size_or("num_experts_per_tok", 2));
  if (some_mamba.empty()) return;
  const Shape& a = g.source().find(some_mamba + "A_log")->shape;
  g.set("ssm.conv_kernel", g.source().find(some_mamba + "conv1d.weight")->shape.back());
  g.set("ssm.inner_size", a.front());
  g.set("ssm.state_size", a.back());
  g.set("ssm.time_step_rank", g.source().find(some_mamba + "dt_proj.weight")->shape.back());
}

void translate_falcon_h1(GgufBuilder& g, WeightLoader& loader) {
  const FalconH1Config config = read_falcon_h1(loader);
  if (loader.failed()) return;
  ends(g, config.residual, "model.embed_tokens.weight", "model.final_layernorm.weight", "output_norm.weight");
  for (std::int64_t i = 0; i < config.residual.layers && !g.failed(); ++i) {
    const std::string from = layer("model.", i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight");
    attention(g, config.attention, from + "self_attn.", to);
    mamba2(g, config.mamba, from + "mamba.", to);
    g.vector(from + "pre_ff_layernorm.weight", to + "ffn_norm");  // llama.cpp has no ".weight" there
    mlp(g, from + "feed_forward.", to, config.mlp);
  }
  attention_keys(g, config.attention, std::vector<bool>(static_cast<std::size_t>(config.residual.layers), true));
  g.set("attention.head_count_kv", config.attention.key_heads);
  g.set("feed_forward_length", config.hidden);
  mamba2_keys(g, config.mamba);
}

void translate_bamba(GgufBuilder& g, WeightLoader& loader) {
  const ResidualConfig config = read_residual(loader, "bamba", "rms_norm_eps", 1e-5);
  AttentionDimensions heads = read_attention(loader, config.width);
  heads.rotary = read_rotary(loader, heads.head_width, 0.5, 10000.0);
  const Mamba2Dimensions mixer = read_mamba2(loader, config.width, config.epsilon);
  if (loader.failed()) return;
  ends(g, config, "model.embed_tokens.weight", "model.final_layernorm.weight", "output_norm.weight");
  const auto attends = attending(g, config.layers, "model.layers.{}.self_attn.q_proj.weight");
  for (std::int64_t i = 0; i < config.layers && !g.failed(); ++i) {
    const std::string from = layer("model.", i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight");
    if (attends[static_cast<std::size_t>(i)]) {
      attention(g, heads, from + "self_attn.", to, /*neighbours=*/true);
    } else {
      mamba2(g, mixer, from + "mamba.", to);
    }
    g.vector(from + "pre_ff_layernorm.weight", to + "ffn_norm.weight");
    mlp(g, from + "feed_forward.", to);
  }
  attention_keys(g, heads, attends);
  g.set("feed_forward_length", loader.size("intermediate_size"));
  mamba2_keys(g, mixer);
}

void translate_granite(GgufBuilder& g, WeightLoader& loader) {
  const GraniteConfig config = read_granite(loader);
  if (loader.failed()) return;
  ends(g, config.residual, "model.embed_tokens.weight", "model.norm.weight", "output_norm.weight");
  const auto attends = attending(g, config.residual.layers, "model.layers.{}.self_attn.q_proj.weight");
  const MixtureDimensions& mixture = config.mixture;
  for (std::int64_t i = 0; i < config.residual.layers && !g.failed(); ++i) {
    const std::string from = layer("model.", i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight");
    if (attends[static_cast<std::size_t>(i)]) {
      attention(g, config.attention, from + "self_attn.", to, /*neighbours=*/true);
    } else {
      mamba2(g, config.mamba, from + "mamba.", to);
    }
    g.vector(from + "post_attention_layernorm.weight", to + "ffn_norm.weight");
    const std::string shared = mixture.experts > 0 ? "_shexp" : "";
    halves(g, from + "shared_mlp.input_linear.weight", to + "ffn_gate" + shared + ".weight",
           to + "ffn_up" + shared + ".weight", mixture.shared_hidden);
    g.matrix(from + "shared_mlp.output_linear.weight", to + "ffn_down" + shared + ".weight");
    if (mixture.experts == 0) continue;
    const std::string inside = from + "block_sparse_moe.";
    g.matrix(inside + "router.layer.weight", to + "ffn_gate_inp.weight");
    halves(g, inside + "input_linear.weight", to + "ffn_gate_exps.weight", to + "ffn_up_exps.weight", mixture.hidden);
    g.matrix(inside + "output_linear.weight", to + "ffn_down_exps.weight");
  }
  attention_keys(g, config.attention, attends);
  mamba2_keys(g, config.mamba);
  g.set("feed_forward_length", mixture.experts > 0 ? mixture.hidden : mixture.shared_hidden);
  if (mixture.experts > 0) {
    g.set("expert_count", mixture.experts);
    g.set("expert_used_count", mixture.chosen);
    g.set("expert_shared_feed_forward_length", mixture.shared_hidden);
  }
  g.set("embedding_scale", static_cast<double>(config.residual.embedding_scale));
  g.set("residual_scale", static_cast<double>(config.residual.residual_scale));
  g.set("logit_scale", 1.0 / static_cast<double>(config.residual.logit_scale));
  g.set("attention.scale", static_cast<double>(config.attention.scale));
  g.set("rope.scaling.finetuned", config.attention.rotary.width > 0);
}

void translate_nemotron(GgufBuilder& g, WeightLoader& loader) {
  const NemotronConfig config = read_nemotron_h(loader);
  if (loader.failed()) return;
  const std::string root = g.has("model.norm_f.weight") ? "model." : "backbone.";
  ends(g, config.residual, root + "embeddings.weight", root + "norm_f.weight", "output_norm.weight");
  std::vector<bool> attends;
  std::vector<std::int64_t> hidden;
  for (std::int64_t i = 0; i < config.residual.layers && !g.failed(); ++i) {
    const std::string from = layer(root, i) + "mixer.", to = block(i);
    const char kind = config.pattern[static_cast<std::size_t>(i)];
    attends.push_back(kind == '*');
    hidden.push_back(kind == '-' ? config.hidden : kind == 'E' ? config.mixture.hidden : 0);
    g.vector(layer(root, i) + "norm.weight", to + "attn_norm.weight");
    if (kind == 'M') {
      mamba2(g, config.mamba, from, to);
    } else if (kind == '*') {
      attention(g, config.attention, from, to);
    } else if (kind == '-') {
      g.matrix(from + "up_proj.weight", to + "ffn_up.weight");
      g.matrix(from + "down_proj.weight", to + "ffn_down.weight");
      g.vector(from + "up_proj.bias", to + "ffn_up.bias", true);
      g.vector(from + "down_proj.bias", to + "ffn_down.bias", true);
    } else {
      g.matrix(from + "gate.weight", to + "ffn_gate_inp.weight");
      g.vector(from + "gate.e_score_correction_bias", to + "exp_probs_b.bias", true);
      experts(g, config.mixture.experts, from, to, /*gated=*/false);
      if (config.mixture.latent > 0) {
        g.matrix(from + "fc1_latent_proj.weight", to + "ffn_latent_down.weight");
        g.matrix(from + "fc2_latent_proj.weight", to + "ffn_latent_up.weight");
      }
      g.matrix(from + "shared_experts.up_proj.weight", to + "ffn_up_shexp.weight");
      g.matrix(from + "shared_experts.down_proj.weight", to + "ffn_down_shexp.weight");
    }
  }
  attention_keys(g, config.attention, attends);
  mamba2_keys(g, config.mamba);
  g.set("feed_forward_length", std::move(hidden));
  g.set("attention.layer_norm_epsilon", static_cast<double>(config.residual.epsilon));
  const MixtureDimensions& mixture = config.mixture;
  if (mixture.experts == 0) return;
  g.set("expert_count", mixture.experts);
  g.set("expert_used_count", mixture.chosen);
  g.set("expert_feed_forward_length", mixture.hidden);
  g.set("expert_shared_feed_forward_length", mixture.shared_hidden);
  g.set("expert_shared_count", std::int64_t{1});
  g.set("expert_weights_norm", mixture.renormalise);
  g.set("expert_weights_scale", static_cast<double>(mixture.scaling));
  g.set("expert_group_count", mixture.groups);
  g.set("expert_group_used_count", mixture.chosen_groups);
  if (mixture.latent > 0) g.set("moe_latent_size", mixture.latent);
}

void translate_lfm2(GgufBuilder& g, WeightLoader& loader) {
  const Lfm2Config config = read_lfm2(loader);
  if (loader.failed()) return;
  ends(g, config.residual, "model.embed_tokens.weight", "model.embedding_norm.weight", "token_embd_norm.weight");
  for (std::int64_t i = 0; i < config.residual.layers && !g.failed(); ++i) {
    const std::string from = layer("model.", i), to = block(i);
    g.vector(from + "operator_norm.weight", to + "attn_norm.weight");
    if (config.attends[static_cast<std::size_t>(i)]) {
      attention(g, config.attention, from + "self_attn.", to, false,
                {.output = "out_proj", .query_norm = "q_layernorm", .key_norm = "k_layernorm"});
    } else {
      g.matrix(from + "conv.in_proj.weight", to + "shortconv.in_proj.weight");
      g.shaped(from + "conv.conv.weight", to + "shortconv.conv.weight", {config.residual.width, config.conv_width});
      g.matrix(from + "conv.out_proj.weight", to + "shortconv.out_proj.weight");
    }
    g.vector(from + "ffn_norm.weight", to + "ffn_norm.weight");
    mlp(g, from + "feed_forward.", to, {1.0F, 1.0F}, {"w1", "w3", "w2"});
  }
  attention_keys(g, config.attention, config.attends);
  g.set("feed_forward_length", config.hidden);
  g.set("shortconv.l_cache", config.conv_width);
}

void translate_qwen(GgufBuilder& g, WeightLoader& loader) {
  const QwenConfig config = read_qwen3_next(loader);
  if (loader.failed()) return;
  const MixtureDimensions& mixture = config.mixture;
  if (mixture.experts == 0) g.refuse(ErrorCode::kUnsupported, "a qwen3next there has experts");
  ends(g, config.residual, "model.embed_tokens.weight", "model.norm.weight", "output_norm.weight", 1.0F);
  const GatedDeltaDimensions& d = config.delta;
  const std::int64_t repeats = d.value_heads / d.key_heads, values = repeats * d.value_width;
  const std::int64_t stride = 2 * d.key_width + 2 * values;
  for (std::int64_t i = 0; i < config.residual.layers && !g.failed(); ++i) {
    const std::string from = layer("model.", i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight", false, 1.0F);
    g.vector(from + "post_attention_layernorm.weight", to + "post_attention_norm.weight", false, 1.0F);
    if (config.attends[static_cast<std::size_t>(i)]) {
      attention(g, config.attention, from + "self_attn.", to);
    } else {
      const std::string mixer = from + "linear_attn.";
      std::vector<std::int64_t> qkv, z;
      const auto append = [&](std::vector<std::int64_t>& order, std::int64_t first, std::int64_t count) {
        for (std::int64_t head = 0; head < d.key_heads; ++head) {
          for (std::int64_t row = 0; row < count; ++row) order.push_back(head * stride + first + row);
        }
      };
      append(qkv, 0, d.key_width);
      append(qkv, d.key_width, d.key_width);
      append(qkv, 2 * d.key_width, values);
      append(z, 2 * d.key_width + values, values);
      g.matrix(mixer + "in_proj_qkvz.weight", to + "attn_qkv.weight", qkv);
      g.matrix(mixer + "in_proj_qkvz.weight", to + "attn_gate.weight", z);
      g.matrix(mixer + "in_proj_ba.weight", to + "ssm_ba.weight");
      g.shaped(mixer + "conv1d.weight", to + "ssm_conv1d.weight",
               {2 * d.key_heads * d.key_width + d.value_heads * d.value_width, d.conv_width});
      g.vector(mixer + "dt_bias", to + "ssm_dt.bias");
      g.decay(mixer + "A_log", to + "ssm_a");
      g.vector(mixer + "norm.weight", to + "ssm_norm.weight");
      g.matrix(mixer + "out_proj.weight", to + "ssm_out.weight");
    }
    g.matrix(from + "mlp.gate.weight", to + "ffn_gate_inp.weight");
    experts(g, mixture.experts, from + "mlp.", to, true);
    g.matrix(from + "mlp.shared_expert.gate_proj.weight", to + "ffn_gate_shexp.weight");
    g.matrix(from + "mlp.shared_expert.up_proj.weight", to + "ffn_up_shexp.weight");
    g.matrix(from + "mlp.shared_expert.down_proj.weight", to + "ffn_down_shexp.weight");
    g.shaped(from + "mlp.shared_expert_gate.weight", to + "ffn_gate_inp_shexp.weight", {config.residual.width});
  }
  attention_keys(g, config.attention, config.attends);
  g.set("attention.head_count_kv", config.attention.key_heads);
  g.set("feed_forward_length", mixture.shared_hidden);
  g.set("expert_count", mixture.experts);
  g.set("expert_used_count", mixture.chosen);
  g.set("expert_feed_forward_length", mixture.hidden);
  g.set("expert_shared_feed_forward_length", mixture.shared_hidden);
  g.set("ssm.conv_kernel", d.conv_width);
  g.set("ssm.inner_size", d.value_heads * d.value_width);
  g.set("ssm.state_size", d.key_width);
  g.set("ssm.time_step_rank", d.value_heads);
  g.set("ssm.group_count", d.key_heads);
  if (d.key_width != d.value_width) g.refuse(ErrorCode::kUnsupported, "a qwen3next there has keys as wide as values");
}

struct Translation {
  std::string_view architecture, gguf;
  void (*run)(GgufBuilder&, WeightLoader&);
};

// clang-format off: a line each
constexpr std::array kTranslations = {
    Translation{"mamba", "mamba", translate_mamba},
    Translation{"mamba2", "mamba2", translate_mamba2},
    Translation{"jamba", "jamba", translate_jamba},
    Translation{"nemotron_h", "nemotron_h", translate_nemotron},
    Translation{"bamba", "granitehybrid", translate_bamba},
    Translation{"granitemoehybrid", "granitehybrid", translate_granite},
    Translation{"falcon_h1", "falcon-h1", translate_falcon_h1},
    Translation{"lfm2", "lfm2", translate_lfm2},
    Translation{"qwen3_next", "qwen3next", translate_qwen},
};
// clang-format on

}  // namespace

Result<std::shared_ptr<const formats::WeightSource>> as_gguf(std::shared_ptr<const formats::WeightSource> source) {
  KRAIT_ASSIGN(const std::string architecture, architecture_name(source->config()));
  const auto* found = std::ranges::find(kTranslations, architecture, &Translation::architecture);
  if (found == kTranslations.end()) {
    std::vector<std::string_view> names;
    for (const Translation& translation : kTranslations) names.push_back(translation.architecture);
    return fail(ErrorCode::kUnsupported, "[gguf] architecture {} is not one that can be written: {} ({})", architecture,
                fmt::join(names, ", "), source->origin());
  }
  if (source->format() == "gguf" || source->config().has("d_model")) {
    return fail(ErrorCode::kUnsupported, "[gguf] the tensors do not have transformers' names ({})", source->origin());
  }
  LoadOptions shapes;
  shapes.shapes_only = true;
  WeightLoader loader(source, shapes);
  GgufBuilder builder(
      source, std::string(architecture == "nemotron_h" && source->config().has("n_routed_experts") ? "nemotron_h_moe"
                                                                                                   : found->gguf));
  found->run(builder, loader);
  if (loader.failed()) return std::unexpected(*loader.error());
  KRAIT_ASSIGN(auto checkpoint, builder.finish());
  // The model's own loader knows best whether a tensor is missing or misshapen.
  KRAIT_TRY(load_model(checkpoint, shapes));
  return checkpoint;
}

}  // namespace krait::models
