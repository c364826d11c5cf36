// Mamba (Gu & Dao 2023), FalconMamba, which adds weightless norms on dt, B and C, and HAX on Mamba (Zhan et al. 2025),
// which adds sparse attention.
// Checkpoints: state-spaces' original (d_model, ssm_cfg), transformers' (hidden_size; HAX: sparse_arch beside it), GGUF
// ("mamba").
#include "krait/models/mamba.h"

#include "krait/models/architectures.h"
#include "krait/models/backbone.h"

namespace krait::models {
namespace {

// dt_rank is a number or "auto": ceil(D / 16).
std::int64_t read_rank(WeightLoader& loader, std::string_view key, std::int64_t width) {
  const std::int64_t automatic = (width + 15) / 16;
  return loader.config().text(key).value_or("") == "auto" ? automatic : loader.size_or(key, automatic);
}

void read_gguf(WeightLoader& loader, ResidualConfig& backbone, Mamba1Dimensions& mixer) {
  backbone.layers = loader.size("mamba.block_count");
  backbone.epsilon = static_cast<float>(loader.number_or("mamba.attention.layer_norm_rms_epsilon", 1e-5));
  mixer.width = loader.size("mamba.embedding_length");
  mixer.inner = loader.size("mamba.ssm.inner_size");
  mixer.states = loader.size("mamba.ssm.state_size");
  mixer.conv_width = loader.size("mamba.ssm.conv_kernel");
  mixer.dt_rank = loader.size("mamba.ssm.time_step_rank");
  // GGUF has no key for the inner epsilon. FalconMamba was trained with 1e-6, not with the block's 1e-5.
  if (loader.boolean_or("mamba.ssm.dt_b_c_rms", false)) mixer.inner_norms = Mamba1Dimensions::InnerNorms::kWeightless;
}

void read_original(WeightLoader& loader, ResidualConfig& backbone, Mamba1Dimensions& mixer) {
  backbone.layers = loader.size("n_layer");
  backbone.tied = loader.boolean_or("tie_embeddings", true);
  mixer.width = loader.size("d_model");
  mixer.inner = loader.size_or("ssm_cfg.expand", 2) * mixer.width;
  mixer.states = loader.size_or("ssm_cfg.d_state", 16);
  mixer.conv_width = loader.size_or("ssm_cfg.d_conv", 4);
  mixer.dt_rank = read_rank(loader, "ssm_cfg.dt_rank", mixer.width);
}

void read_transformers(WeightLoader& loader, ResidualConfig& backbone, Mamba1Dimensions& mixer) {
  backbone.layers = loader.size("num_hidden_layers");
  backbone.epsilon = static_cast<float>(loader.number_or("layer_norm_epsilon", 1e-5));
  backbone.tied = loader.boolean_if_present("tie_word_embeddings");
  mixer.width = loader.size("hidden_size");
  // FalconMamba's files say expand 16 beside the true intermediate_size: the latter counts.
  mixer.inner = loader.config().has("intermediate_size") ? loader.size("intermediate_size")
                                                         : loader.size_or("expand", 2) * mixer.width;
  mixer.states = loader.size_or("state_size", 16);
  mixer.conv_width = loader.size_or("conv_kernel", 4);
  mixer.dt_rank = read_rank(loader, "time_step_rank", mixer.width);
  if (loader.text_or("model_type", "mamba") == "falcon_mamba") {
    mixer.inner_norms = Mamba1Dimensions::InnerNorms::kWeightless;
  }
  mixer.inner_epsilon = static_cast<float>(loader.number_or("mixer_rms_eps", 1e-6));
  mixer.hax = read_hax(loader, mixer.states, mixer.inner);
}

}  // namespace

MambaConfig read_mamba(WeightLoader& loader) {
  MambaConfig config;
  auto& [backbone, mixer] = config;
  if (loader.is_gguf()) {
    read_gguf(loader, backbone, mixer);
  } else if (loader.config().has("d_model")) {
    read_original(loader, backbone, mixer);
  } else {
    read_transformers(loader, backbone, mixer);
  }
  backbone.architecture = mixer.hax                                                  ? "hax_mamba"
                          : mixer.inner_norms == Mamba1Dimensions::InnerNorms::kNone ? "mamba"
                                                                                     : "falcon_mamba";
  backbone.width = mixer.width;
  return config;
}

std::unique_ptr<Model> load_mamba(WeightLoader& loader) {
  const auto [backbone, mixer] = read_mamba(loader);
  return load_backbone<Mamba1Mixer>(loader, backbone, mixer);
}

}  // namespace krait::models
