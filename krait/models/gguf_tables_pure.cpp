// Models without attention: Mamba, FalconMamba, Mamba-2, RWKV-7.
#include <array>
#include <vector>

#include "krait/models/gguf_parts.h"
#include "krait/models/gguf_tables.h"
#include "krait/models/mamba.h"

namespace krait::models::gguf {
namespace {

std::string block(std::int64_t i) { return fmt::format("blk.{}.", i); }

// Sizes of an RWKV-7: in GGUF keys have them, in transformers' layout the tensors.
struct RwkvSizes {
  ResidualConfig residual;
  std::int64_t heads = 0, head_width = 0;
};

RwkvSizes read_rwkv7(const GgufTranslation& g, WeightLoader& loader) {
  RwkvSizes sizes;
  sizes.residual.architecture = "rwkv7";
  sizes.residual.tied = false;
  if (g.to_gguf()) {
    const auto r_k = [&](std::int64_t i) { return g.shape(fmt::format("model.layers.{}.attn.r_k", i), ""); };
    while (!r_k(sizes.residual.layers).empty()) ++sizes.residual.layers;
    if (const Shape shape = r_k(0); shape.size() == 2) {
      sizes.heads = shape[0];
      sizes.head_width = shape[1];
    }
    sizes.residual.width = sizes.heads * sizes.head_width;
    return sizes;
  }
  sizes.residual.layers = loader.size(g.gguf_key("block_count"));
  sizes.residual.width = loader.size(g.gguf_key("embedding_length"));
  sizes.head_width = loader.size(g.gguf_key("wkv.head_size"));
  sizes.heads = sizes.residual.width / sizes.head_width;
  sizes.residual.epsilon = static_cast<float>(loader.number_or(g.gguf_key("attention.layer_norm_epsilon"), 1e-5));
  return sizes;
}

void rwkv7_time_mix(GgufTranslation& g, const RwkvSizes& sizes, const std::string& from, const std::string& to,
                    bool first) {
  const std::int64_t width = sizes.residual.width;
  const Shape row = {width}, mix = {1, 1, width};
  std::vector<std::string> mixes;
  for (const char letter : {'r', 'w', 'k', 'v', 'a', 'g'}) mixes.push_back(fmt::format("{}x_{}", from, letter));
  g.vectors(mixes, to + "time_mix_lerp_fused.weight", mix, {6, 1, 1, width});
  for (const auto& [name, gguf] : {std::pair{"r", "receptance"}, {"k", "key"}, {"v", "value"}, {"o", "output"}}) {
    g.matrix(fmt::format("{}{}_proj.weight", from, name), fmt::format("{}time_mix_{}.weight", to, gguf));
  }
  for (const char letter : {'w', 'a', 'g', 'v'}) {
    const std::string lora = fmt::format("{}{}_lora.lora.", from, letter);
    const auto gguf = [&](int part) { return fmt::format("{}time_mix_{}{}.weight", to, letter, part); };
    if (letter == 'v' && first) {
      // GGUF may have a value residual in the first layer; nobody uses it.
      for (int part = 0; part < 3 && !g.to_gguf(); ++part) g.leave_out(gguf(part));
      continue;
    }
    g.matrix(lora + "0.weight", gguf(1));
    g.matrix(lora + "2.weight", gguf(2));
    if (letter != 'g') g.vector(lora + "2.bias", gguf(0), {.shape = row, .gguf_shape = row});
  }
  for (const char* part : {"k_k", "k_a"}) {
    g.vector(from + part, fmt::format("{}time_mix_{}.weight", to, part), {.shape = row, .gguf_shape = row});
  }
  g.vector(from + "r_k", to + "time_mix_r_k.weight", {.shape = {sizes.heads, sizes.head_width}, .gguf_shape = row});
  g.vector(from + "g_norm.weight", to + "time_mix_ln.weight");
  g.vector(from + "g_norm.bias", to + "time_mix_ln.bias");
}

void backbone_ends(GgufTranslation& g, ResidualConfig config, WeightLoader& loader) {
  if (g.to_gguf()) config.tied = loader.boolean_or("tie_word_embeddings", false);
  ends(g, config,
       {.embedding = "backbone.embeddings.weight", .norm = "backbone.norm_f.weight", .epsilon = "layer_norm_epsilon"});
  // Neither has anything of a transformer; llama.cpp asks all the same.
  g.set("feed_forward_length", "", std::int64_t{0});
  g.set("attention.head_count", "", std::int64_t{0});
}

}  // namespace

void translate_mamba(GgufTranslation& g, WeightLoader& loader) {
  const auto [residual, mixer] = read_mamba(loader);
  if (loader.failed()) return;
  if (g.to_gguf() && mixer.inner != 2 * residual.width) {
    return g.refuse(ErrorCode::kUnsupported,
                    fmt::format("a mamba there is twice as wide inside: {} and {}", residual.width, mixer.inner));
  }
  backbone_ends(g, residual, loader);
  for (std::int64_t i = 0; i < residual.layers && !g.failed(); ++i) {
    const std::string from = fmt::format("backbone.layers.{}.", i);
    g.vector(from + "norm.weight", block(i) + "attn_norm.weight");
    mamba1(g, mixer, from + "mixer.", block(i));
  }
  mamba1_keys(g, mixer, residual.layers);
  const bool norms = mixer.inner_norms == Mamba1Dimensions::InnerNorms::kWeightless;
  g.set("ssm.dt_b_c_rms", "", norms);
  if (!norms) return;
  // GGUF has no key for this epsilon, so there it is what FalconMamba was trained with.
  if (mixer.inner_epsilon != 1e-6F) {
    g.refuse(ErrorCode::kUnsupported, fmt::format("a mamba there has no mixer_rms_eps of {}", mixer.inner_epsilon));
  }
  g.set("", "mixer_rms_eps", static_cast<double>(mixer.inner_epsilon));
}

void translate_mamba2(GgufTranslation& g, WeightLoader& loader) {
  const ResidualConfig config = read_residual(loader, "mamba2", "layer_norm_epsilon", 1e-5);
  Mamba2Dimensions mixer =
      g.to_gguf() ? read_mamba2_transformers(loader) : read_mamba2(loader, config.width, config.epsilon);
  if (loader.failed()) return;
  if (!mixer.gated_norm) g.refuse(ErrorCode::kUnsupported, "a mamba2 there has a norm: rms_norm false");
  backbone_ends(g, config, loader);
  for (std::int64_t i = 0; i < config.layers && !g.failed(); ++i) {
    const std::string from = fmt::format("backbone.layers.{}.", i);
    g.vector(from + "norm.weight", block(i) + "attn_norm.weight");
    mamba2(g, mixer, from + "mixer.", block(i));
  }
  mamba2_keys(g, mixer, config.layers,
              {.conv = "conv_kernel",
               .states = "state_size",
               .heads = "num_heads",
               .head_width = "head_dim",
               .groups = "n_groups",
               .expand = "expand",
               .conv_bias = "use_conv_bias"});
}

void translate_rwkv7(GgufTranslation& g, WeightLoader& loader) {
  const RwkvSizes sizes = read_rwkv7(g, loader);
  if (loader.failed()) return;
  const ResidualConfig& residual = sizes.residual;
  const auto norm = [&](const std::string& name, const std::string& gguf) {
    g.vector(name + ".weight", gguf + ".weight");
    g.vector(name + ".bias", gguf + ".bias");
  };
  ends(g, residual, {.embedding = "model.embeddings.weight", .norm = "model.norm.weight", .epsilon = "norm_eps"});
  g.vector("model.norm.bias", "output_norm.bias");
  norm("model.layers.0.pre_norm", "token_embd_norm");
  for (std::int64_t i = 0; i < residual.layers && !g.failed(); ++i) {
    const std::string from = fmt::format("model.layers.{}.", i), to = block(i);
    norm(from + "attn_norm", to + "attn_norm");
    norm(from + "ffn_norm", to + "attn_norm_2");
    rwkv7_time_mix(g, sizes, from + "attn.", to, i == 0);
    const Shape mix = {1, 1, residual.width};
    g.vector(from + "ffn.x_k", to + "channel_mix_lerp_k.weight", {.shape = {residual.width}, .gguf_shape = mix});
    g.matrix(from + "ffn.key.weight", to + "channel_mix_key.weight");
    g.matrix(from + "ffn.value.weight", to + "channel_mix_value.weight");
  }
  if (g.failed()) return;
  const auto rows_of = [&](const std::string& name, const std::string& gguf) {
    const Shape shape = g.shape(name, gguf);
    return shape.empty() ? std::int64_t{0} : shape.front();
  };
  const std::int64_t last = residual.layers - 1;
  const auto rank = [&](char letter) {
    return rows_of(fmt::format("model.layers.{}.attn.{}_lora.lora.0.weight", last, letter),
                   fmt::format("blk.{}.time_mix_{}1.weight", last, letter));
  };
  g.set("attention.layer_norm_epsilon", "", static_cast<double>(residual.epsilon));
  g.set("wkv.head_size", "head_dim", sizes.head_width);
  g.set("", "num_heads", sizes.heads);
  g.set("feed_forward_length", "intermediate_size",
        rows_of("model.layers.0.ffn.key.weight", "blk.0.channel_mix_key.weight"));
  g.set("attention.decay_lora_rank", "decay_low_rank_dim", rank('w'));
  g.set("attention.iclr_lora_rank", "a_low_rank_dim", rank('a'));
  if (last > 0) g.set("attention.value_residual_mix_lora_rank", "v_low_rank_dim", rank('v'));
  g.set("attention.gate_lora_rank", "gate_low_rank_dim", rank('g'));
  g.set("attention.head_count", "", std::int64_t{0});
  g.set("", "hidden_act", std::string("sqrelu"));
  g.set("", "norm_first", true);
  g.set("", "norm_bias", true);
}

}  // namespace krait::models::gguf
