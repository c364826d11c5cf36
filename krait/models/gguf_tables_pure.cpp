// Models without attention: Mamba, FalconMamba, Mamba-2.
#include "krait/models/gguf_parts.h"
#include "krait/models/gguf_tables.h"
#include "krait/models/mamba.h"

namespace krait::models::gguf {
namespace {

std::string block(std::int64_t i) { return fmt::format("blk.{}.", i); }

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

}  // namespace krait::models::gguf
