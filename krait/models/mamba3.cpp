// Mamba-3 (arXiv 2603.15569).
// Checkpoints: state-spaces' original (d_model, ssm_cfg.layer "Mamba3"); no other program has a format for it.
#include "krait/models/mixers/mamba3.h"
#include "krait/models/architectures.h"
#include "krait/models/backbone.h"

namespace krait::models {

std::unique_ptr<Model> load_mamba3(WeightLoader& loader) {
  ResidualConfig backbone;
  Mamba3Dimensions mixer;
  backbone.architecture = "mamba3";
  backbone.layers = loader.size("n_layer");
  backbone.width = mixer.width = loader.size("d_model");
  backbone.tied = loader.boolean_or("tie_embeddings", true);
  const std::string& origin = loader.config().origin();
  const auto refuse = [&](std::string message) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] {} ({})", message, origin)});
  };
  const std::int64_t inner = loader.size_or("ssm_cfg.expand", 2) * mixer.width;
  mixer.head_width = loader.size_or("ssm_cfg.headdim", 64);
  mixer.states = loader.size_or("ssm_cfg.d_state", 128);
  mixer.groups = loader.size_or("ssm_cfg.ngroups", 1);
  mixer.mimo = loader.boolean_or("ssm_cfg.is_mimo", false);
  if (mixer.mimo) mixer.rank = loader.size_or("ssm_cfg.mimo_rank", 4);
  mixer.output_norm = loader.boolean_or("ssm_cfg.is_outproj_norm", false);
  mixer.decay_floor = static_cast<float>(loader.number_or("ssm_cfg.A_floor", 1e-4));
  const double turning = loader.number_or("ssm_cfg.rope_fraction", 0.5);
  if (loader.failed()) return nullptr;
  if (inner % mixer.head_width != 0) {
    refuse(
        fmt::format("an inner width of {} does not divide into heads of ssm_cfg.headdim {}", inner, mixer.head_width));
  } else if (!(turning > 0.0 && turning <= 1.0)) {
    refuse(fmt::format("ssm_cfg.rope_fraction is {}, not in (0, 1]", turning));
  } else if (mixer.states % 2 != 0) {
    refuse(fmt::format("ssm_cfg.d_state is {}: states turn in pairs", mixer.states));
  }
  if (loader.failed()) return nullptr;
  mixer.heads = inner / mixer.head_width;
  mixer.angles = static_cast<std::int64_t>(static_cast<double>(mixer.states) * turning) / 2;
  return load_backbone<Mamba3Mixer>(loader, backbone, mixer);
}

}  // namespace krait::models
