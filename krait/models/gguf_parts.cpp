#include "krait/models/gguf_parts.h"

#include <cmath>

namespace krait::models::gguf {
namespace {

// llama_ftype of llama.h, which is what llama.cpp prints as the file's type.
std::int64_t file_type(DType dtype) { return dtype == DType::kF16 ? 1 : dtype == DType::kBF16 ? 32 : 0; }

}  // namespace

void mamba1(GgufBuilder& g, Prefix from, Prefix to) {
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

void mamba2(GgufBuilder& g, const Mamba2Dimensions& d, Prefix from, Prefix to) {
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

void attention(GgufBuilder& g, const AttentionDimensions& d, Prefix from, Prefix to, bool neighbours,
               const AttentionNames& names) {
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

void mlp(GgufBuilder& g, Prefix from, Prefix to, const std::array<float, 2>& factors,
         const std::array<const char*, 3>& names) {
  g.scaled_matrix(fmt::format("{}{}.weight", from, names[0]), to + "ffn_gate.weight", factors[0]);
  g.matrix(fmt::format("{}{}.weight", from, names[1]), to + "ffn_up.weight");
  g.scaled_matrix(fmt::format("{}{}.weight", from, names[2]), to + "ffn_down.weight", factors[1]);
}

void experts(GgufBuilder& g, std::int64_t count, Prefix from, Prefix to, bool gated) {
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

void halves(GgufBuilder& g, Prefix from, Prefix gate, Prefix up, std::int64_t hidden) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(hidden));
  for (std::int64_t i = 0; i < hidden; ++i) order[static_cast<std::size_t>(i)] = i;
  g.matrix(from, gate, order);
  for (std::int64_t& row : order) row += hidden;
  g.matrix(from, up, order);
}

void ends(GgufBuilder& g, const ResidualConfig& c, Prefix embedding, Prefix norm, Prefix gguf_norm, float added) {
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

}  // namespace krait::models::gguf
