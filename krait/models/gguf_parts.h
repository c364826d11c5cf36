// The parts of a translation that several architectures share: mixers, MLPs, experts, both ends, and their keys. `from`
// and `to` are prefixes of names, in transformers' layout and in GGUF's, whichever way the translation goes.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "krait/models/gguf_translation.h"
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/mamba1.h"
#include "krait/models/mixers/mixture_of_experts.h"

namespace krait::models::gguf {

using Prefix = const std::string&;

void mamba1(GgufTranslation& g, const Mamba1Dimensions& d, Prefix from, Prefix to);
// transformers' names of the keys of a Mamba-1; an empty one is not written.
struct Mamba1Keys {
  std::string_view conv = "conv_kernel", states = "state_size", rank = "time_step_rank", inner = "intermediate_size",
                   expand = "expand", conv_bias = "use_conv_bias";
};
void mamba1_keys(GgufTranslation& g, const Mamba1Dimensions& d, std::int64_t layers, const Mamba1Keys& names = {});
void mamba2(GgufTranslation& g, const Mamba2Dimensions& d, Prefix from, Prefix to);

// The same of a Mamba-2.
struct Mamba2Keys {
  std::string_view conv = "mamba_d_conv", states = "mamba_d_state", heads = "mamba_n_heads",
                   head_width = "mamba_d_head", groups = "mamba_n_groups", expand = "mamba_expand",
                   conv_bias = "mamba_conv_bias";
};
void mamba2_keys(GgufTranslation& g, const Mamba2Dimensions& d, std::int64_t layers, const Mamba2Keys& names = {});

struct AttentionForm {
  bool neighbours = false;      // rows of queries and keys stand in llama.cpp's first layout there
  bool biases = true;           // both sides know them
  bool output_bias = true;      // and that of the output
  bool norms_from_one = false;  // transformers' norms store w - 1
};
void attention(GgufTranslation& g, const AttentionDimensions& d, Prefix from, Prefix to, const AttentionForm& form = {},
               const AttentionNames& names = {});
// Heads of each layer, 0 where it does not attend.
void attention_keys(GgufTranslation& g, const AttentionDimensions& d, const std::vector<bool>& attends);

struct MlpForm {
  std::array<float, 2> factors = {1.0F, 1.0F};                               // of the gate and of the result
  std::array<const char*, 3> names = {"gate_proj", "up_proj", "down_proj"};  // an empty one is not there
  bool biases = false;
  bool scales = false;  // GGUF's graph counts the scales beside its matrices
};
void mlp(GgufTranslation& g, Prefix from, Prefix to, const MlpForm& form = {});
// Experts that stand one by one; stacked, where some writers have them so already.
void experts(GgufTranslation& g, std::int64_t count, Prefix from, Prefix to, bool gated);
// Rows of a fused gate and up, gate above.
void halves(GgufTranslation& g, Prefix from, Prefix gate, Prefix up, std::int64_t hidden, bool scales);

// Where both ends stand, and what transformers calls the epsilon of the norms.
struct Ends {
  std::string embedding = "model.embed_tokens.weight", norm = "model.final_layernorm.weight";
  std::string gguf_norm = "output_norm.weight";
  std::string_view epsilon = "rms_norm_eps";
  float added = 0.0F;  // to the last norm
};
// Both ends, and the keys of every checkpoint.
void ends(GgufTranslation& g, const ResidualConfig& c, const Ends& where);

// Which layers have a tensor; {} is the number of the layer.
std::vector<bool> layers_with(const GgufTranslation& g, std::int64_t layers, std::string_view name,
                              std::string_view gguf);
// A word a layer, for transformers' layer_types.
std::vector<std::string> layer_words(const std::vector<bool>& which, const char* yes, const char* no);

}  // namespace krait::models::gguf
