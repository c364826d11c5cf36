// Mamba-2 (Dao & Gu 2024), and HAX on it (Zhan et al. 2025), which adds sparse attention.
// Checkpoints: state-spaces' original (d_model, ssm_cfg.layer "Mamba2"), transformers' (hidden_size; HAX: sparse_arch
// beside it), Mistral's Codestral-Mamba (dim, names under "model."), GGUF ("mamba2").
#include "krait/models/mixers/mamba2.h"
#include "krait/models/architectures.h"
#include "krait/models/backbone.h"
#include "krait/models/hybrid_config.h"

namespace krait::models {
namespace {

kernels::GateOrder gate_order(bool norm_before_gate) {
  return norm_before_gate ? kernels::GateOrder::kNormThenGate : kernels::GateOrder::kGateThenNorm;
}

void read_gguf(WeightLoader& loader, ResidualConfig& backbone, Mamba2Dimensions& mixer) {
  backbone.layers = loader.size("mamba2.block_count");
  backbone.epsilon = static_cast<float>(loader.number_or("mamba2.attention.layer_norm_rms_epsilon", 1e-5));
  mixer.width = loader.size("mamba2.embedding_length");
  mixer.heads = loader.size("mamba2.ssm.time_step_rank");  // GGUF's name for the number of heads
  mixer.head_width = loader.size("mamba2.ssm.inner_size") / mixer.heads;
  mixer.states = loader.size("mamba2.ssm.state_size");
  mixer.groups = loader.size_or("mamba2.ssm.group_count", 1);
  mixer.conv_width = loader.size("mamba2.ssm.conv_kernel");
}

void read_original(WeightLoader& loader, ResidualConfig& backbone, Mamba2Dimensions& mixer) {
  backbone.layers = loader.size("n_layer");
  backbone.tied = loader.boolean_or("tie_embeddings", true);
  mixer.width = loader.size("d_model");
  const std::int64_t inner = loader.size_or("ssm_cfg.expand", 2) * mixer.width;
  if (const std::int64_t part = loader.size_or("ssm_cfg.d_ssm", inner); part != inner) {
    loader.set_error({ErrorCode::kUnsupported,
                      fmt::format("[models] ssm_cfg.d_ssm is {}, the inner width {}: mixers that are part MLP are not "
                                  "supported ({})",
                                  part, inner, loader.config().origin())});
  }
  mixer.head_width = loader.size_or("ssm_cfg.headdim", 64);
  mixer.heads = inner / mixer.head_width;
  mixer.states = loader.size_or("ssm_cfg.d_state", 128);
  mixer.groups = loader.size_or("ssm_cfg.ngroups", 1);
  mixer.conv_width = loader.size_or("ssm_cfg.d_conv", 4);
  mixer.gated_norm = loader.boolean_or("ssm_cfg.rmsnorm", true);
  mixer.gate_order = gate_order(loader.boolean_or("ssm_cfg.norm_before_gate", false));
  read_dt_limits(loader, "ssm_cfg.dt_limit", mixer);
}

// Codestral-Mamba's params.json names only what differs from the original code's defaults.
void read_mistral(WeightLoader& loader, ResidualConfig& backbone, Mamba2Dimensions& mixer) {
  backbone.layers = loader.size("n_layers");
  backbone.tied = loader.boolean_or("tie_embeddings", true);
  mixer.width = loader.size("dim");
  mixer.heads = 2 * mixer.width / mixer.head_width;
  mixer.groups = loader.size("n_groups");
}

void read_transformers(WeightLoader& loader, ResidualConfig& backbone, Mamba2Dimensions& mixer) {
  backbone.layers = loader.size("num_hidden_layers");
  backbone.epsilon = static_cast<float>(loader.number_or("layer_norm_epsilon", 1e-5));
  backbone.tied = loader.boolean_if_present("tie_word_embeddings");
  mixer = read_mamba2_transformers(loader);
  mixer.hax = read_hax(loader, mixer.states, mixer.heads * mixer.head_width);
}

}  // namespace

Mamba2Dimensions read_mamba2_transformers(WeightLoader& loader) {
  Mamba2Dimensions mixer;
  mixer.width = loader.size("hidden_size");
  mixer.head_width = loader.size_or("head_dim", 64);
  mixer.heads = loader.size_or("num_heads", loader.size_or("expand", 2) * mixer.width / mixer.head_width);
  mixer.states = loader.size_or("state_size", 128);
  // Their class's default is Codestral's 8; files converted from state-spaces always say 1.
  mixer.groups = loader.size_or("n_groups", 8);
  mixer.conv_width = loader.size_or("conv_kernel", 4);
  mixer.gated_norm = loader.boolean_or("rms_norm", true);
  mixer.gate_order = gate_order(loader.boolean_or("norm_before_gate", false));
  read_dt_limits(loader, "time_step_limit", mixer);
  return mixer;
}

std::unique_ptr<Model> load_mamba2(WeightLoader& loader) {
  ResidualConfig backbone;
  Mamba2Dimensions mixer;
  if (loader.is_gguf()) {
    read_gguf(loader, backbone, mixer);
  } else if (loader.config().has("d_model")) {
    read_original(loader, backbone, mixer);
  } else if (loader.config().has("dim")) {
    read_mistral(loader, backbone, mixer);
  } else {
    read_transformers(loader, backbone, mixer);
  }
  backbone.architecture = mixer.hax ? "hax_mamba2" : "mamba2";
  backbone.width = mixer.width;
  mixer.epsilon = backbone.epsilon;
  return load_backbone<Mamba2Mixer>(loader, backbone, mixer);
}

}  // namespace krait::models
