// Models in which attention and state-space layers take turns.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "krait/models/falcon_h1.h"
#include "krait/models/gguf_parts.h"
#include "krait/models/gguf_tables.h"
#include "krait/models/granite_hybrid.h"
#include "krait/models/jamba.h"
#include "krait/models/lfm2.h"
#include "krait/models/nemotron_h.h"
#include "krait/models/qwen3_next.h"

namespace krait::models::gguf {
namespace {

std::string layer(std::int64_t i) { return fmt::format("model.layers.{}.", i); }
std::string block(std::int64_t i) { return fmt::format("blk.{}.", i); }

std::vector<bool> attending(const GgufTranslation& g, std::int64_t layers) {
  return layers_with(g, layers, "model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight");
}

// Which layers are meant, as a period and an offset: transformers' Jamba knows no other way.
void period_keys(GgufTranslation& g, const std::vector<bool>& which, const std::string& period_key,
                 const std::string& offset_key) {
  const auto layers = static_cast<std::int64_t>(which.size());
  for (std::int64_t period = 1; period <= layers + 1; ++period) {
    for (std::int64_t offset = 0; offset < period; ++offset) {
      bool fits = true;
      for (std::int64_t i = 0; i < layers && fits; ++i) {
        fits = which[static_cast<std::size_t>(i)] == (i % period == offset);
      }
      if (!fits) continue;
      g.set("", period_key, period);
      g.set("", offset_key, offset);
      return;
    }
  }
  if (!g.to_gguf()) g.refuse(ErrorCode::kUnsupported, period_key + ": the layers meant do not repeat evenly");
}

}  // namespace

void translate_jamba(GgufTranslation& g, WeightLoader& loader) {
  const JambaConfig config = read_jamba(loader);
  if (loader.failed()) return;
  const std::int64_t layers = config.residual.layers, count = config.mixture.experts;
  ends(g, config.residual, {});
  const auto attends = attending(g, layers);
  const auto mixes = layers_with(g, layers, "model.layers.{}.feed_forward.router.weight", "blk.{}.ffn_gate_inp.weight");
  for (std::int64_t i = 0; i < layers && !g.failed(); ++i) {
    const std::string from = layer(i), to = block(i), inside = from + "feed_forward.";
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight");
    if (attends[static_cast<std::size_t>(i)]) {
      attention(g, config.attention, from + "self_attn.", to, {.biases = false});
    } else {
      mamba1(g, config.mamba, from + "mamba.", to);
    }
    g.vector(from + "pre_ff_layernorm.weight", to + "ffn_norm.weight");
    if (mixes[static_cast<std::size_t>(i)]) {
      g.matrix(inside + "router.weight", to + "ffn_gate_inp.weight");
      experts(g, count, inside, to, true);
    } else {
      mlp(g, inside, to);
    }
  }
  if (g.failed()) return;
  attention_keys(g, config.attention, attends);
  period_keys(g, attends, "attn_layer_period", "attn_layer_offset");
  period_keys(g, mixes, "expert_layer_period", "expert_layer_offset");
  g.set("feed_forward_length", "intermediate_size", config.hidden);
  g.set("expert_count", "num_experts", g.to_gguf() ? count : std::max<std::int64_t>(1, count));
  g.set("expert_used_count", "num_experts_per_tok",
        g.to_gguf() ? config.mixture.chosen : std::max<std::int64_t>(1, config.mixture.chosen));
  mamba1_keys(g, config.mamba, layers,
              {.conv = "mamba_d_conv",
               .states = "mamba_d_state",
               .rank = "mamba_dt_rank",
               .inner = "",
               .expand = "mamba_expand",
               .conv_bias = "mamba_conv_bias"});
}

void translate_falcon_h1(GgufTranslation& g, WeightLoader& loader) {
  // From GGUF every multiplier is 1: they are in the weights.
  const FalconH1Config config = read_falcon_h1(loader);
  if (loader.failed()) return;
  const std::int64_t layers = config.residual.layers;
  ends(g, config.residual, {});
  for (std::int64_t i = 0; i < layers && !g.failed(); ++i) {
    const std::string from = layer(i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight");
    attention(g, config.attention, from + "self_attn.", to, {.output_bias = false});
    mamba2(g, config.mamba, from + "mamba.", to);
    // llama.cpp has no ".weight" there.
    const bool bare = g.to_gguf() || g.has("", to + "ffn_norm");
    g.vector(from + "pre_ff_layernorm.weight", to + (bare ? "ffn_norm" : "ffn_norm.weight"));
    mlp(g, from + "feed_forward.", to, {.factors = config.mlp, .biases = true});
  }
  attention_keys(g, config.attention, std::vector<bool>(static_cast<std::size_t>(layers), true));
  g.set("attention.head_count_kv", "", config.attention.key_heads);
  g.set("feed_forward_length", "intermediate_size", config.hidden);
  g.set("", "mlp_bias", g.has("", "blk.0.ffn_gate.bias"));
  mamba2_keys(g, config.mamba, layers, {.expand = ""});
  g.set("", "mamba_d_ssm", config.mamba.heads * config.mamba.head_width);
  g.set("", "mamba_rms_norm", config.mamba.gated_norm);
  g.set("", "mamba_norm_before_gate", false);
}

void translate_bamba(GgufTranslation& g, WeightLoader& loader) {
  const ResidualConfig config = read_residual(loader, "bamba", "rms_norm_eps", 1e-5);
  AttentionDimensions heads = read_attention(loader, config.width);
  heads.rotary = read_rotary(loader, heads.head_width, 0.5, 10000.0);
  const Mamba2Dimensions mixer = read_mamba2(loader, config.width, config.epsilon);
  const std::int64_t hidden = loader.size(g.to_gguf() ? "intermediate_size" : g.gguf_key("feed_forward_length"));
  if (loader.failed()) return;
  ends(g, config, {});
  const auto attends = attending(g, config.layers);
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < config.layers && !g.failed(); ++i) {
    const std::string from = layer(i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight");
    if (attends[static_cast<std::size_t>(i)]) {
      attention(g, heads, from + "self_attn.", to, {.neighbours = true});
      indices.push_back(i);
    } else {
      mamba2(g, mixer, from + "mamba.", to);
    }
    g.vector(from + "pre_ff_layernorm.weight", to + "ffn_norm.weight");
    mlp(g, from + "feed_forward.", to);
  }
  attention_keys(g, heads, attends);
  g.set("", "attn_layer_indices", std::move(indices));
  g.set("feed_forward_length", "intermediate_size", hidden);
  mamba2_keys(g, mixer, config.layers);
}

void translate_granite(GgufTranslation& g, WeightLoader& loader) {
  const GraniteConfig config = read_granite(loader);
  if (loader.failed()) return;
  const ResidualConfig& residual = config.residual;
  ends(g, residual, {.norm = "model.norm.weight"});
  const auto attends = attending(g, residual.layers);
  const MixtureDimensions& mixture = config.mixture;
  const bool mixes = mixture.experts > 0, turns = config.attention.rotary.width > 0;
  for (std::int64_t i = 0; i < residual.layers && !g.failed(); ++i) {
    const std::string from = layer(i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight");
    if (attends[static_cast<std::size_t>(i)]) {
      attention(g, config.attention, from + "self_attn.", to, {.neighbours = true});
    } else {
      mamba2(g, config.mamba, from + "mamba.", to);
    }
    g.vector(from + "post_attention_layernorm.weight", to + "ffn_norm.weight");
    const std::string shared = mixes ? "_shexp.weight" : ".weight";
    halves(g, from + "shared_mlp.input_linear.weight", to + "ffn_gate" + shared, to + "ffn_up" + shared,
           mixture.shared_hidden, /*scales=*/false);
    g.matrix(from + "shared_mlp.output_linear.weight", to + "ffn_down" + shared, 1.0F, /*scales=*/false);
    if (!mixes) continue;
    const std::string inside = from + "block_sparse_moe.";
    g.matrix(inside + "router.layer.weight", to + "ffn_gate_inp.weight");
    halves(g, inside + "input_linear.weight", to + "ffn_gate_exps.weight", to + "ffn_up_exps.weight", mixture.hidden,
           /*scales=*/true);
    g.matrix(inside + "output_linear.weight", to + "ffn_down_exps.weight");
  }
  attention_keys(g, config.attention, attends);
  mamba2_keys(g, config.mamba, residual.layers);
  g.set("feed_forward_length", "intermediate_size", mixes ? mixture.hidden : mixture.shared_hidden);
  g.set(mixes ? "expert_count" : "", "num_local_experts", mixture.experts);
  g.set(mixes ? "expert_used_count" : "", "num_experts_per_tok", mixture.chosen);
  g.set(mixes ? "expert_shared_feed_forward_length" : "", "shared_intermediate_size", mixture.shared_hidden);
  g.set("", "layer_types", layer_words(attends, "attention", "mamba"));
  g.set("embedding_scale", "embedding_multiplier", static_cast<double>(residual.embedding_scale));
  g.set("residual_scale", "residual_multiplier", static_cast<double>(residual.residual_scale));
  // A quotient of two f32: the divisor that was meant is the f32 nearest to it.
  g.set("logit_scale", "logits_scaling",
        static_cast<double>(static_cast<float>(1.0 / static_cast<double>(residual.logit_scale))));
  const auto width = static_cast<double>(config.attention.head_width);
  const auto scale = static_cast<double>(config.attention.scale);
  g.set("attention.scale", "attention_multiplier", scale == 0.0 && !g.to_gguf() ? 1.0 / std::sqrt(width) : scale);
  g.set("rope.scaling.finetuned", "", turns);
  g.set("", "position_embedding_type", std::string(turns ? "rope" : "nope"));
}

void translate_nemotron(GgufTranslation& g, WeightLoader& loader) {
  const NemotronConfig config = read_nemotron_h(loader);
  if (loader.failed()) return;
  const std::int64_t layers = config.residual.layers;
  const std::string root = g.has("model.norm_f.weight", "") ? "model." : "backbone.";
  ends(g, config.residual,
       {.embedding = root + "embeddings.weight", .norm = root + "norm_f.weight", .epsilon = "layer_norm_epsilon"});
  const MixtureDimensions& mixture = config.mixture;
  std::vector<bool> attends;
  std::vector<std::int64_t> hidden;
  std::int64_t mlp_hidden = 0;
  std::string pattern;
  for (std::int64_t i = 0; i < layers && !g.failed(); ++i) {
    const std::string at = fmt::format("{}layers.{}.", root, i), from = at + "mixer.", to = block(i);
    const char kind = g.to_gguf()                             ? config.pattern[static_cast<std::size_t>(i)]
                      : g.has("", to + "ssm_in.weight")       ? 'M'
                      : g.has("", to + "attn_q.weight")       ? '*'
                      : g.has("", to + "ffn_gate_inp.weight") ? 'E'
                                                              : '-';
    pattern += kind;
    attends.push_back(kind == '*');
    const std::int64_t width = g.to_gguf() || kind != '-' ? config.hidden : g.shape("", to + "ffn_down.weight").back();
    hidden.push_back(kind == '-' ? width : kind == 'E' ? mixture.hidden : 0);
    g.vector(at + "norm.weight", to + "attn_norm.weight");
    if (kind == 'M') {
      mamba2(g, config.mamba, from, to);
    } else if (kind == '*') {
      attention(g, config.attention, from, to);
    } else if (kind == '-') {
      if (mlp_hidden != 0 && mlp_hidden != width) {
        g.refuse(ErrorCode::kUnsupported,
                 fmt::format("MLPs of {} and of {}: transformers has one intermediate_size", mlp_hidden, width));
      }
      mlp_hidden = width;
      mlp(g, from, to, {.names = {"", "up_proj", "down_proj"}, .biases = true, .scales = true});
    } else {
      g.matrix(from + "gate.weight", to + "ffn_gate_inp.weight");
      g.vector(from + "gate.e_score_correction_bias", to + "exp_probs_b.bias", {.optional = true});
      experts(g, mixture.experts, from, to, /*gated=*/false);
      if (mixture.latent > 0) {
        g.matrix(from + "fc1_latent_proj.weight", to + "ffn_latent_down.weight");
        g.matrix(from + "fc2_latent_proj.weight", to + "ffn_latent_up.weight");
      }
      if (mixture.shared_hidden > 0) {
        g.matrix(from + "shared_experts.up_proj.weight", to + "ffn_up_shexp.weight");
        g.matrix(from + "shared_experts.down_proj.weight", to + "ffn_down_shexp.weight");
      }
    }
  }
  attention_keys(g, config.attention, attends);
  mamba2_keys(g, config.mamba, layers,
              {.conv = "conv_kernel",
               .states = "ssm_state_size",
               .heads = "mamba_num_heads",
               .head_width = "mamba_head_dim",
               .groups = "n_groups",
               .expand = "",
               .conv_bias = "use_conv_bias"});
  g.set("feed_forward_length", "", std::move(hidden));
  g.set("", "intermediate_size", std::max<std::int64_t>(1, mlp_hidden));
  g.set("", "hybrid_override_pattern", std::move(pattern));
  g.set("", "mlp_hidden_act", std::string("relu2"));
  g.set("attention.layer_norm_epsilon", "", static_cast<double>(config.residual.epsilon));
  if (mixture.experts == 0) return;
  g.set("expert_count", "n_routed_experts", mixture.experts);
  g.set("expert_used_count", "num_experts_per_tok", mixture.chosen);
  g.set("expert_feed_forward_length", "moe_intermediate_size", mixture.hidden);
  g.set("expert_shared_feed_forward_length", "moe_shared_expert_intermediate_size", mixture.shared_hidden);
  g.set("expert_shared_count", "n_shared_experts", std::int64_t{mixture.shared_hidden > 0 ? 1 : 0});
  g.set("expert_weights_norm", "norm_topk_prob", mixture.renormalise);
  g.set("expert_weights_scale", "routed_scaling_factor", static_cast<double>(mixture.scaling));
  g.set("expert_group_count", "n_group", mixture.groups);
  g.set("expert_group_used_count", "topk_group", mixture.chosen_groups);
  if (mixture.latent > 0) g.set("moe_latent_size", "moe_latent_size", mixture.latent);
}

void translate_lfm2(GgufTranslation& g, WeightLoader& loader) {
  const Lfm2Config config = read_lfm2(loader);
  if (loader.failed()) return;
  const std::int64_t width = config.residual.width, layers = config.residual.layers;
  if (!g.to_gguf() && config.attention.window > 0) {
    g.refuse(ErrorCode::kUnsupported,
             fmt::format("attention.sliding_window is {}: an lfm2 of transformers has none", config.attention.window));
  }
  ends(g, config.residual,
       {.norm = "model.embedding_norm.weight", .gguf_norm = "token_embd_norm.weight", .epsilon = "norm_eps"});
  const auto attends = g.to_gguf() ? config.attends : attending(g, layers);
  for (std::int64_t i = 0; i < layers && !g.failed(); ++i) {
    const std::string from = layer(i), to = block(i);
    g.vector(from + "operator_norm.weight", to + "attn_norm.weight");
    if (attends[static_cast<std::size_t>(i)]) {
      attention(g, config.attention, from + "self_attn.", to, {.biases = false},
                {.output = "out_proj", .query_norm = "q_layernorm", .key_norm = "k_layernorm"});
    } else {
      g.matrix(from + "conv.in_proj.weight", to + "shortconv.in_proj.weight", 1.0F, /*scales=*/false);
      g.vector(from + "conv.conv.weight", to + "shortconv.conv.weight",
               {.shape = {width, 1, config.conv_width}, .gguf_shape = {width, config.conv_width}});
      g.matrix(from + "conv.out_proj.weight", to + "shortconv.out_proj.weight", 1.0F, /*scales=*/false);
    }
    g.vector(from + "ffn_norm.weight", to + "ffn_norm.weight");
    mlp(g, from + "feed_forward.", to, {.names = {"w1", "w3", "w2"}});
  }
  attention_keys(g, config.attention, attends);
  g.set("feed_forward_length", "intermediate_size", config.hidden);
  g.set("", "block_auto_adjust_ff_dim", false);  // the width is what it says
  g.set("shortconv.l_cache", "conv_L_cache", config.conv_width);
  g.set("", "conv_bias", false);
  g.set("", "layer_types", layer_words(attends, "full_attention", "conv"));
}

void translate_qwen(GgufTranslation& g, WeightLoader& loader) {
  const QwenConfig config = read_qwen3_next(loader);
  if (loader.failed()) return;
  const MixtureDimensions& mixture = config.mixture;
  const std::int64_t layers = config.residual.layers;
  if (mixture.experts == 0) g.refuse(ErrorCode::kUnsupported, "a qwen3next there has experts");
  if (!g.to_gguf() && mixture.scaling != 1.0F) {
    g.refuse(ErrorCode::kUnsupported,
             fmt::format("expert_weights_scale is {}: a qwen3_next of transformers has none", mixture.scaling));
  }
  ends(g, config.residual, {.norm = "model.norm.weight", .added = 1.0F});
  const GatedDeltaDimensions& d = config.delta;
  const std::int64_t repeats = d.value_heads / d.key_heads, values = repeats * d.value_width;
  const std::int64_t stride = 2 * d.key_width + 2 * values;
  if (stride > (std::int64_t{1} << 24) / d.key_heads) {
    return g.refuse(ErrorCode::kCorrupt, fmt::format("no matrix has {} heads of {} rows", d.key_heads, stride));
  }
  const std::int64_t channels = 2 * d.key_heads * d.key_width + d.value_heads * d.value_width;
  // in_proj_qkvz has for every key head its query, its key, its values, their gates.
  GgufRows qkv, z;
  const auto append = [&](GgufRows& rows, std::int64_t first, std::int64_t count) {
    for (std::int64_t head = 0; head < d.key_heads; ++head) {
      for (std::int64_t row = 0; row < count; ++row) rows.order.push_back(head * stride + first + row);
    }
  };
  append(qkv, 0, d.key_width);
  append(qkv, d.key_width, d.key_width);
  append(qkv, 2 * d.key_width, values);
  append(z, 2 * d.key_width + values, values);
  const auto attends = g.to_gguf() ? config.attends : attending(g, layers);
  for (std::int64_t i = 0; i < layers && !g.failed(); ++i) {
    const std::string from = layer(i), to = block(i);
    g.vector(from + "input_layernorm.weight", to + "attn_norm.weight", {.added = 1.0F});
    g.vector(from + "post_attention_layernorm.weight", to + "post_attention_norm.weight", {.added = 1.0F});
    if (attends[static_cast<std::size_t>(i)]) {
      attention(g, config.attention, from + "self_attn.", to, {.biases = false, .norms_from_one = true});
    } else {
      const std::string mixer = from + "linear_attn.";
      if (!g.to_gguf() && !g.has("", to + "attn_qkv.weight")) {
        // As the first files had it.
        g.matrix(mixer + "in_proj_qkvz.weight", to + "ssm_in.weight", 1.0F, /*scales=*/false);
      } else {
        qkv.gguf = to + "attn_qkv.weight";
        z.gguf = to + "attn_gate.weight";
        g.matrix_of_rows(mixer + "in_proj_qkvz.weight", std::array{qkv, z}, /*scales=*/false);
      }
      g.matrix(mixer + "in_proj_ba.weight", to + "ssm_ba.weight", 1.0F, /*scales=*/false);
      g.vector(mixer + "conv1d.weight", to + "ssm_conv1d.weight",
               {.shape = {channels, 1, d.conv_width}, .gguf_shape = {channels, d.conv_width}});
      g.vector(mixer + "dt_bias", to + "ssm_dt.bias");
      g.vector(mixer + "A_log", to + "ssm_a", {.decay = true});
      g.vector(mixer + "norm.weight", to + "ssm_norm.weight");
      g.matrix(mixer + "out_proj.weight", to + "ssm_out.weight", 1.0F, /*scales=*/false);
    }
    g.matrix(from + "mlp.gate.weight", to + "ffn_gate_inp.weight");
    experts(g, mixture.experts, from + "mlp.", to, true);
    const std::string shared = from + "mlp.shared_expert.";
    g.matrix(shared + "gate_proj.weight", to + "ffn_gate_shexp.weight");
    g.matrix(shared + "up_proj.weight", to + "ffn_up_shexp.weight");
    g.matrix(shared + "down_proj.weight", to + "ffn_down_shexp.weight");
    const std::int64_t width = config.residual.width;
    g.vector(from + "mlp.shared_expert_gate.weight", to + "ffn_gate_inp_shexp.weight",
             {.shape = {1, width}, .gguf_shape = {width}});
  }
  attention_keys(g, config.attention, attends);
  g.set("attention.head_count_kv", "", config.attention.key_heads);
  g.set("feed_forward_length", "", mixture.shared_hidden);
  g.set("expert_count", "num_experts", mixture.experts);
  g.set("expert_used_count", "num_experts_per_tok", mixture.chosen);
  g.set("expert_feed_forward_length", "moe_intermediate_size", mixture.hidden);
  g.set("expert_shared_feed_forward_length", "shared_expert_intermediate_size", mixture.shared_hidden);
  g.set("", "norm_topk_prob", true);
  g.set("", "decoder_sparse_step", std::int64_t{1});
  g.set("", "layer_types", layer_words(attends, "full_attention", "linear_attention"));
  g.set("ssm.conv_kernel", "linear_conv_kernel_dim", d.conv_width);
  g.set("ssm.inner_size", "", d.value_heads * d.value_width);
  g.set("ssm.state_size", "linear_key_head_dim", d.key_width);
  g.set("", "linear_value_head_dim", d.value_width);
  g.set("ssm.time_step_rank", "linear_num_value_heads", d.value_heads);
  g.set("ssm.group_count", "linear_num_key_heads", d.key_heads);
  if (g.to_gguf() && d.key_width != d.value_width) {
    g.refuse(ErrorCode::kUnsupported, "a qwen3next there has keys as wide as values");
  }
}

}  // namespace krait::models::gguf
