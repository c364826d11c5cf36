#include "krait/models/gguf_parts.h"

#include <algorithm>
#include <cmath>

namespace krait::models::gguf {
namespace {

// llama_ftype of llama.h, which is what llama.cpp prints as the file's type.
std::int64_t file_type(DType dtype) { return dtype == DType::kF16 ? 1 : dtype == DType::kBF16 ? 32 : 0; }

// A whole multiple, as transformers' configurations name inner widths.
std::int64_t expansion(GgufTranslation& g, std::int64_t inner, std::int64_t width) {
  if (inner % width != 0 && !g.to_gguf()) {
    g.refuse(ErrorCode::kUnsupported,
             fmt::format("an inner width of {} is no multiple of {}, as transformers has it", inner, width));
  }
  return std::max<std::int64_t>(1, inner / width);
}

// Of any layer of a GGUF.
bool has_conv_bias(const GgufTranslation& g, std::int64_t layers) {
  return std::ranges::count(layers_with(g, layers, "", "blk.{}.ssm_conv1d.bias"), true) > 0;
}

// The share of a head's components that turn, such that its product with the width gives their number back.
double rotary_share(std::int64_t rotary, std::int64_t width) {
  const double share = static_cast<double>(rotary) / static_cast<double>(width);
  const bool exact = static_cast<std::int64_t>(static_cast<double>(width) * share) == rotary;
  return exact ? share : std::nextafter(share, 1.0);
}

}  // namespace

void mamba1(GgufTranslation& g, const Mamba1Dimensions& d, Prefix from, Prefix to) {
  g.matrix(from + "in_proj.weight", to + "ssm_in.weight");
  g.vector(from + "conv1d.weight", to + "ssm_conv1d.weight",
           {.shape = {d.inner, 1, d.conv_width}, .gguf_shape = {d.inner, d.conv_width}});
  g.vector(from + "conv1d.bias", to + "ssm_conv1d.bias", {.optional = true});
  g.matrix(from + "x_proj.weight", to + "ssm_x.weight");
  g.matrix(from + "dt_proj.weight", to + "ssm_dt.weight");
  g.vector(from + "dt_proj.bias", to + "ssm_dt.bias");
  g.vector(from + "A_log", to + "ssm_a", {.decay = true});
  g.vector(from + "D", to + "ssm_d");
  g.matrix(from + "out_proj.weight", to + "ssm_out.weight");
  for (const auto* part : {"dt", "b", "c"}) {
    g.vector(fmt::format("{}{}_layernorm.weight", from, part), fmt::format("{}ssm_{}_norm.weight", to, part),
             {.optional = true});
  }
}

void mamba1_keys(GgufTranslation& g, const Mamba1Dimensions& d, std::int64_t layers, const Mamba1Keys& names) {
  g.set("ssm.conv_kernel", names.conv, d.conv_width);
  g.set("ssm.inner_size", names.inner, d.inner);
  g.set("ssm.state_size", names.states, d.states);
  g.set("ssm.time_step_rank", names.rank, d.dt_rank);
  g.set("", names.expand, expansion(g, d.inner, d.width));
  g.set("", names.conv_bias, has_conv_bias(g, layers));
}

void mamba2(GgufTranslation& g, const Mamba2Dimensions& d, Prefix from, Prefix to) {
  const std::int64_t inner = d.heads * d.head_width, states = d.groups * d.states;
  if (inner % d.groups != 0) {
    return g.refuse(ErrorCode::kCorrupt,
                    fmt::format("an inner width of {} does not divide into {} groups", inner, d.groups));
  }
  std::vector<float> factors;
  const auto& f = d.part_factors;
  const std::int64_t projected = 2 * inner + 2 * states + d.heads;
  const Shape found = g.shape(from + "in_proj.weight", to + "ssm_in.weight");
  if (!found.empty() && found.front() != projected) {
    return g.refuse(ErrorCode::kCorrupt,
                    fmt::format("tensor {}in_proj.weight has {} rows, not {}", from, found.front(), projected));
  }
  if (d.input_factor != 1.0F || f != std::array<float, 5>{1.0F, 1.0F, 1.0F, 1.0F, 1.0F}) {
    for (const auto& [count, factor] : {std::pair{inner, f[0]}, std::pair{inner, f[1]}, std::pair{states, f[2]},
                                        std::pair{states, f[3]}, std::pair{d.heads, f[4]}}) {
      factors.insert(factors.end(), static_cast<std::size_t>(count), d.input_factor * factor);
    }
  }
  const std::int64_t channels = inner + 2 * states;
  const Shape heads = {d.heads}, column = {d.heads, 1};
  g.matrix_of_factors(from + "in_proj.weight", to + "ssm_in.weight", factors);
  g.vector(from + "conv1d.weight", to + "ssm_conv1d.weight",
           {.shape = {channels, 1, d.conv_width}, .gguf_shape = {channels, d.conv_width}});
  g.vector(from + "conv1d.bias", to + "ssm_conv1d.bias", {.optional = true});
  g.vector(from + "dt_bias", to + "ssm_dt.bias", {.shape = heads, .gguf_shape = heads});
  g.vector(from + "A_log", to + "ssm_a", {.decay = true, .shape = heads, .gguf_shape = column});
  g.vector(from + "D", to + "ssm_d", {.shape = heads, .gguf_shape = column});
  if (d.gated_norm) {
    g.vector(from + "norm.weight", to + "ssm_norm.weight",
             {.shape = {inner}, .gguf_shape = {d.groups, inner / d.groups}});
  }
  g.matrix(from + "out_proj.weight", to + "ssm_out.weight", d.output_factor);
  // What the equations of GGUF's graphs leave no choice in.
  if (d.dt_low > 0.0F || std::isfinite(d.dt_high)) {
    g.refuse(ErrorCode::kUnsupported, "a Mamba-2 there has no limits of the time step");
  }
  if (g.to_gguf() && d.gated_norm && d.gate_order == kernels::GateOrder::kNormThenGate) {
    g.refuse(ErrorCode::kUnsupported, "a Mamba-2 there has its norm after the gate: norm_before_gate true");
  }
}

void mamba2_keys(GgufTranslation& g, const Mamba2Dimensions& d, std::int64_t layers, const Mamba2Keys& names) {
  const std::int64_t inner = d.heads * d.head_width;
  g.set("ssm.conv_kernel", names.conv, d.conv_width);
  g.set("ssm.inner_size", "", inner);
  g.set("ssm.state_size", names.states, d.states);
  g.set("ssm.time_step_rank", names.heads, d.heads);
  g.set("ssm.group_count", names.groups, d.groups);
  g.set("", names.head_width, d.head_width);
  if (!names.expand.empty()) g.set("", names.expand, expansion(g, inner, d.width));
  g.set("", names.conv_bias, has_conv_bias(g, layers));
}

void attention(GgufTranslation& g, const AttentionDimensions& d, Prefix from, Prefix to, const AttentionForm& form,
               const AttentionNames& names) {
  const std::int64_t rotary = d.rotary.width > 0 ? d.rotary.width : d.head_width;
  // What one side has no place for is left, and finish() names it.
  const auto bias = [&](const std::string& name, const std::string& gguf) {
    if (form.biases) g.vector(name + ".bias", gguf + ".bias", {.optional = true});
  };
  if (form.neighbours) {
    g.rotary_rows(from + names.query, to + "attn_q", d.heads, d.head_width, rotary);
    g.rotary_rows(from + names.key, to + "attn_k", d.key_heads, d.head_width, rotary);
  } else {
    g.matrix(from + names.query + ".weight", to + "attn_q.weight", d.input_factor);
    bias(from + names.query, to + "attn_q");
    g.matrix(from + names.key + ".weight", to + "attn_k.weight", d.input_factor * d.key_factor);
    bias(from + names.key, to + "attn_k");
  }
  g.matrix(from + names.value + ".weight", to + "attn_v.weight", d.input_factor);
  bias(from + names.value, to + "attn_v");
  g.matrix(from + names.output + ".weight", to + "attn_output.weight", d.output_factor);
  if (form.output_bias) bias(from + names.output, to + "attn_output");
  if (d.norms) {
    const float added = form.norms_from_one ? 1.0F : 0.0F;
    g.vector(from + names.query_norm + ".weight", to + "attn_q_norm.weight", {.added = added});
    g.vector(from + names.key_norm + ".weight", to + "attn_k_norm.weight", {.added = added});
  }
}

void attention_keys(GgufTranslation& g, const AttentionDimensions& d, const std::vector<bool>& attends) {
  std::vector<std::int64_t> key_heads;
  bool bias = false;
  for (std::size_t i = 0; i < attends.size(); ++i) {
    key_heads.push_back(attends[i] ? d.key_heads : 0);
    bias = bias || g.has("", fmt::format("blk.{}.attn_q.bias", i));
  }
  g.set("attention.head_count", "num_attention_heads", d.heads);
  g.set("attention.head_count_kv", "", std::move(key_heads));
  g.set("", "num_key_value_heads", d.key_heads);
  g.set("attention.key_length", "head_dim", d.head_width);
  g.set("attention.value_length", "", d.head_width);
  g.set("", "attention_bias", bias);
  if (d.rotary.width == 0) return;
  g.set("rope.dimension_count", "", d.rotary.width);
  g.set("rope.freq_base", "rope_theta", d.rotary.theta);
  g.set("", "partial_rotary_factor", rotary_share(d.rotary.width, d.head_width));
}

void mlp(GgufTranslation& g, Prefix from, Prefix to, const MlpForm& form) {
  const std::array<const char*, 3> gguf = {"ffn_gate", "ffn_up", "ffn_down"};
  const std::array<float, 3> factors = {form.factors[0], 1.0F, form.factors[1]};
  for (std::size_t i = 0; i < gguf.size(); ++i) {
    if (*form.names[i] == '\0') continue;
    const std::string name = from + form.names[i], there = to + gguf[i];
    g.matrix(name + ".weight", there + ".weight", factors[i], form.scales);
    if (form.biases) {
      // The factors stand behind the bias, and a scale of GGUF as well.
      const float scale = form.scales ? g.gguf_scale(there + ".weight") : 1.0F;
      g.vector(name + ".bias", there + ".bias", {.optional = true, .factor = factors[i] * scale});
    }
  }
}

void experts(GgufTranslation& g, std::int64_t count, Prefix from, Prefix to, bool gated) {
  const bool fused = gated && g.has(from + "experts.gate_up_proj", to + "ffn_gate_up_exps.weight");
  if (fused || (g.to_gguf() && g.has(from + "experts.down_proj", ""))) {
    if (gated) {
      g.matrix(from + "experts.gate_up_proj", to + "ffn_gate_up_exps.weight", 1.0F, /*scales=*/false);
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

void halves(GgufTranslation& g, Prefix from, Prefix gate, Prefix up, std::int64_t hidden, bool scales) {
  std::array<GgufRows, 2> parts = {{{gate, {}}, {up, {}}}};
  for (std::int64_t i = 0; i < hidden; ++i) {
    parts[0].order.push_back(i);
    parts[1].order.push_back(hidden + i);
  }
  g.matrix_of_rows(from, parts, scales);
}

void ends(GgufTranslation& g, const ResidualConfig& c, const Ends& where) {
  const std::string table = "token_embd.weight", head = "lm_head.weight", gguf_head = "output.weight";
  if (!g.has(where.embedding, table)) {
    return g.refuse(ErrorCode::kUnsupported, g.to_gguf()
                                                 ? "the tensors do not have transformers' names: no " + where.embedding
                                                 : "the tensors do not have GGUF's names: no " + table);
  }
  const bool multiplied = c.architecture == "falcon_h1";
  g.matrix(where.embedding, table, multiplied ? c.embedding_scale : 1.0F);
  g.vector(where.norm, where.gguf_norm, {.added = where.added});
  const bool tied = c.tied.value_or(!g.has(head, gguf_head));
  const float logits = multiplied ? c.logit_scale : 1.0F;
  if (!tied) {
    g.matrix(head, gguf_head, logits);
  } else if (g.to_gguf() && multiplied && logits != c.embedding_scale) {
    // One table cannot hold two factors.
    g.matrix(where.embedding, gguf_head, logits);
  }
  if (g.to_gguf()) g.leave_out(head);
  const Shape shape = g.shape(where.embedding, table);
  const DType dtype = g.written_dtype_of(where.embedding, table);
  if (g.to_gguf()) g.set_written("general.file_type", file_type(dtype));
  constexpr std::int64_t kLongContext = std::int64_t{1} << 20;
  const auto& config = g.source_config();
  const std::string context = g.to_gguf() ? "max_position_embeddings" : g.gguf_key("context_length");
  g.set("context_length", "max_position_embeddings", config.integer_or(context, kLongContext).value_or(kLongContext));
  g.set("block_count", "num_hidden_layers", c.layers);
  g.set("embedding_length", "hidden_size", c.width);
  g.set("vocab_size", "vocab_size", shape.front());
  g.set("attention.layer_norm_rms_epsilon", where.epsilon, static_cast<double>(c.epsilon));
  g.set("", "tie_word_embeddings", tied);
  g.set("", "torch_dtype",
        std::string(dtype == DType::kF16    ? "float16"
                    : dtype == DType::kBF16 ? "bfloat16"
                                            : "float32"));
}

std::vector<bool> layers_with(const GgufTranslation& g, std::int64_t layers, std::string_view name,
                              std::string_view gguf) {
  std::vector<bool> result;
  for (std::int64_t i = 0; i < layers; ++i) {
    result.push_back(g.has(fmt::format(fmt::runtime(name), i), fmt::format(fmt::runtime(gguf), i)));
  }
  return result;
}

std::vector<std::string> layer_words(const std::vector<bool>& which, const char* yes, const char* no) {
  std::vector<std::string> words;
  for (const bool here : which) words.emplace_back(here ? yes : no);
  return words;
}

}  // namespace krait::models::gguf
