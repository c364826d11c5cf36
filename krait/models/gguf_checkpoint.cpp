#include "krait/models/gguf_checkpoint.h"

#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <string>

#include "krait/models/falcon_h1.h"
#include "krait/models/gguf_builder.h"
#include "krait/models/granite_hybrid.h"
#include "krait/models/lfm2.h"
#include "krait/models/nemotron_h.h"
#include "krait/models/qwen3_next.h"
#include "krait/models/registry.h"

namespace krait::models {
namespace {

using Names = const std::string&;

// llama_ftype of llama.h, which is what llama.cpp prints as the file's type.
std::int64_t file_type(DType dtype) { return dtype == DType::kF16 ? 1 : dtype == DType::kBF16 ? 32 : 0; }

// The parts that models share; `from` and `to` are the layer's prefixes.
void mamba1(GgufBuilder& g, Names from, Names to) {
  g.matrix(from + "in_proj.weight", to + "ssm_in.weight");
  const auto* conv = g.source().find(from + "conv1d.weight");
  if (conv != nullptr && conv->shape.size() == 3) {
    g.shaped(from + "conv1d.weight", to + "ssm_conv1d.weight", {conv->shape[0], conv->shape[2]});
  } else {
    g.vector(from + "conv1d.weight", to + "ssm_conv1d.weight");
  }
  g.vector(from + "conv1d.bias", to + "ssm_conv1d.bias", true);
  g.matrix(from + "x_proj.weight", to + "ssm_x.weight");
  g.matrix(from + "dt_proj.weight", to + "ssm_dt.weight");
  g.vector(from + "dt_proj.bias", to + "ssm_dt.bias");
  g.decay(from + "A_log", to + "ssm_a");
  g.vector(from + "D", to + "ssm_d");
  g.matrix(from + "out_proj.weight", to + "ssm_out.weight");
  for (const auto* part : {"dt", "b", "c"}) {
    g.vector(fmt::format("{}{}_layernorm.weight", from, part), fmt::format("{}ssm_{}_norm.weight", to, part), true);
  }
}

void mamba2(GgufBuilder& g, const Mamba2Dimensions& d, Names from, Names to) {
  const std::int64_t inner = d.heads * d.head_width, states = d.groups * d.states;
  if (inner % d.groups != 0) {
    return g.refuse(ErrorCode::kCorrupt,
                    fmt::format("an inner width of {} does not divide into {} groups", inner, d.groups));
  }
  std::vector<float> factors;
  const auto& f = d.part_factors;
  if (d.input_factor != 1.0F || f != std::array<float, 5>{1.0F, 1.0F, 1.0F, 1.0F, 1.0F}) {
    for (const auto& [count, factor] : {std::pair{inner, f[0]}, std::pair{inner, f[1]}, std::pair{states, f[2]},
                                        std::pair{states, f[3]}, std::pair{d.heads, f[4]}}) {
      factors.insert(factors.end(), static_cast<std::size_t>(count), d.input_factor * factor);
    }
  }
  g.matrix(from + "in_proj.weight", to + "ssm_in.weight", {}, factors);
  g.shaped(from + "conv1d.weight", to + "ssm_conv1d.weight", {inner + 2 * states, d.conv_width});
  g.vector(from + "conv1d.bias", to + "ssm_conv1d.bias", true);
  g.shaped(from + "dt_bias", to + "ssm_dt.bias", {d.heads});
  g.decay(from + "A_log", to + "ssm_a", {d.heads, 1});
  g.shaped(from + "D", to + "ssm_d", {d.heads, 1});
  if (d.gated_norm) g.shaped(from + "norm.weight", to + "ssm_norm.weight", {d.groups, inner / d.groups});
  g.scaled_matrix(from + "out_proj.weight", to + "ssm_out.weight", d.output_factor);
  // What the equations of GGUF's graphs leave no choice in.
  if (d.dt_low > 0.0F || std::isfinite(d.dt_high)) {
    g.refuse(ErrorCode::kUnsupported, "a Mamba-2 there has no limits of the time step");
  }
  if (d.gated_norm && d.gate_order == kernels::GateOrder::kNormThenGate) {
    g.refuse(ErrorCode::kUnsupported, "a Mamba-2 there has its norm after the gate: norm_before_gate true");
  }
}

void mamba2_keys(GgufBuilder& g, const Mamba2Dimensions& d) {
  g.set("ssm.conv_kernel", d.conv_width);
  g.set("ssm.inner_size", d.heads * d.head_width);
  g.set("ssm.state_size", d.states);
  g.set("ssm.time_step_rank", d.heads);
  g.set("ssm.group_count", d.groups);
}

// `neighbours`: rows of queries and keys go to llama.cpp's first layout, of so many components.
void attention(GgufBuilder& g, const AttentionDimensions& d, Names from, Names to, bool neighbours = false,
               const AttentionNames& names = {}) {
  const std::int64_t rotary = d.rotary.width > 0 ? d.rotary.width : d.head_width;
  if (neighbours) {
    g.rotary_rows(from + names.query, to + "attn_q", d.heads, d.head_width, rotary);
    g.rotary_rows(from + names.key, to + "attn_k", d.key_heads, d.head_width, rotary);
  } else {
    g.scaled_matrix(from + names.query + ".weight", to + "attn_q.weight", d.input_factor);
    g.vector(from + names.query + ".bias", to + "attn_q.bias", true);
    g.scaled_matrix(from + names.key + ".weight", to + "attn_k.weight", d.input_factor * d.key_factor);
    g.vector(from + names.key + ".bias", to + "attn_k.bias", true);
  }
  g.scaled_matrix(from + names.value + ".weight", to + "attn_v.weight", d.input_factor);
  g.vector(from + names.value + ".bias", to + "attn_v.bias", true);
  g.scaled_matrix(from + names.output + ".weight", to + "attn_output.weight", d.output_factor);
  g.vector(from + names.output + ".bias", to + "attn_output.bias", true);
  if (d.norms) {
    const float added = d.norms_from_one ? 1.0F : 0.0F;
    g.vector(from + names.query_norm + ".weight", to + "attn_q_norm.weight", false, added);
    g.vector(from + names.key_norm + ".weight", to + "attn_k_norm.weight", false, added);
  }
}

// Heads of each layer, 0 where it does not attend.
void attention_keys(GgufBuilder& g, const AttentionDimensions& d, const std::vector<bool>& attends) {
  std::vector<std::int64_t> heads, key_heads;
  for (const bool here : attends) {
    heads.push_back(here ? d.heads : 0);
    key_heads.push_back(here ? d.key_heads : 0);
  }
  g.set("attention.head_count", d.heads);
  g.set("attention.head_count_kv", std::move(key_heads));
  g.set("attention.key_length", d.head_width);
  g.set("attention.value_length", d.head_width);
  if (d.rotary.width == 0) return;
  g.set("rope.dimension_count", d.rotary.width);
  g.set("rope.freq_base", d.rotary.theta);
}

void mlp(GgufBuilder& g, Names from, Names to, const std::array<float, 2>& factors = {1.0F, 1.0F},
         const std::array<const char*, 3>& names = {"gate_proj", "up_proj", "down_proj"}) {
  g.scaled_matrix(fmt::format("{}{}.weight", from, names[0]), to + "ffn_gate.weight", factors[0]);
  g.matrix(fmt::format("{}{}.weight", from, names[1]), to + "ffn_up.weight");
  g.scaled_matrix(fmt::format("{}{}.weight", from, names[2]), to + "ffn_down.weight", factors[1]);
}

// Experts that stand one by one; stacked, where some writers have them so already.
void experts(GgufBuilder& g, std::int64_t count, Names from, Names to, bool gated) {
  if (g.has(from + "experts.down_proj")) {
    if (gated) {
      g.matrix(from + "experts.gate_up_proj", to + "ffn_gate_up_exps.weight");
    } else {
      g.matrix(from + "experts.up_proj", to + "ffn_up_exps.weight");
    }
    g.matrix(from + "experts.down_proj", to + "ffn_down_exps.weight");
    return;
  }
  if (gated) g.stack(from + "experts.{}.gate_proj.weight", to + "ffn_gate_exps.weight", count);
  g.stack(from + "experts.{}.up_proj.weight", to + "ffn_up_exps.weight", count);
  g.stack(from + "experts.{}.down_proj.weight", to + "ffn_down_exps.weight", count);
}

// Rows of a fused gate and up, gate above.
void halves(GgufBuilder& g, Names from, Names gate, Names up, std::int64_t hidden) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(hidden));
  for (std::int64_t i = 0; i < hidden; ++i) order[static_cast<std::size_t>(i)] = i;
  g.matrix(from, gate, order);
  for (std::int64_t& row : order) row += hidden;
  g.matrix(from, up, order);
}

// Both ends, and the keys of every file. `added`: to the last norm.
void ends(GgufBuilder& g, const ResidualConfig& c, Names embedding, Names norm, Names gguf_norm, float added = 0.0F) {
  if (!g.has(embedding)) {
    return g.refuse(ErrorCode::kUnsupported, "the tensors do not have transformers' names: no " + embedding);
  }
  const formats::TensorInfo& table = *g.source().find(embedding);
  g.scaled_matrix(embedding, "token_embd.weight", c.architecture == "falcon_h1" ? c.embedding_scale : 1.0F);
  g.vector(norm, gguf_norm, false, added);
  const bool tied = c.tied.value_or(!g.has("lm_head.weight"));
  const float logits = c.architecture == "falcon_h1" ? c.logit_scale : 1.0F;
  if (!tied) {
    g.scaled_matrix("lm_head.weight", "output.weight", logits);
  } else if (c.architecture == "falcon_h1" && logits != c.embedding_scale) {
    // One table cannot hold two factors.
    g.scaled_matrix(embedding, "output.weight", logits);
  }
  g.leave_out("lm_head.weight");
  g.set_general("general.file_type", file_type(table.dtype));
  const auto context = g.from().integer_or("max_position_embeddings", std::int64_t{1} << 20);
  g.set("context_length", context.value_or(std::int64_t{1} << 20));
  g.set("block_count", c.layers);
  g.set("embedding_length", c.width);
  g.set("vocab_size", table.shape.front());
  g.set("attention.layer_norm_rms_epsilon", static_cast<double>(c.epsilon));
}

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
