#include "krait/models/registry.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "krait/models/architectures.h"

namespace krait::models {
namespace {

struct Architecture {
  std::string_view name;
  std::unique_ptr<Model> (*load)(WeightLoader&);
};

// clang-format off: a line each
constexpr std::array kArchitectures = {
    Architecture{"mamba", load_mamba},
    Architecture{"falcon_mamba", load_mamba},
    Architecture{"mamba2", load_mamba2},
    Architecture{"mamba3", load_mamba3},
    Architecture{"rwkv7", load_rwkv7},
    Architecture{"jamba", load_jamba},
    Architecture{"nemotron_h", load_nemotron_h},
    Architecture{"nemotron_h_moe", load_nemotron_h},
    Architecture{"bamba", load_bamba},
    Architecture{"granitemoehybrid", load_granite_hybrid},
    Architecture{"granitehybrid", load_granite_hybrid},
    Architecture{"falcon_h1", load_falcon_h1},
    Architecture{"falcon-h1", load_falcon_h1},
    Architecture{"lfm2", load_lfm2},
    Architecture{"qwen3_next", load_qwen3_next},
    Architecture{"qwen3next", load_qwen3_next},
    Architecture{"qwen3_5", load_qwen3_next},
    Architecture{"qwen3_5_moe", load_qwen3_next},
    Architecture{"zamba2", load_zamba2},
    Architecture{"phi4flash", load_phi4flash},
    Architecture{"samba", load_samba},
};
// clang-format on

constexpr auto kNames = [] {
  std::array<std::string_view, kArchitectures.size()> names;
  std::ranges::transform(kArchitectures, names.begin(), &Architecture::name);
  return names;
}();

}  // namespace

std::span<const std::string_view> architecture_names() { return kNames; }

Result<std::string> architecture_name(const formats::Config& config) {
  if (config.has("general.architecture")) return config.text("general.architecture");
  // Mistral's params.json of Codestral-Mamba calls a Mamba-2 "mamba".
  if (config.has("dim") && config.has("n_groups")) return "mamba2";
  if (config.has("model_type")) return config.text("model_type");
  // The configuration keys of lit-gpt, in which Samba's authors wrote it.
  if (config.has("n_embd") && config.has("mb_per_layer")) return "samba";
  if (config.has("d_model") && config.has("n_layer")) {
    KRAIT_ASSIGN(const std::string layer, config.text_or("ssm_cfg.layer", "Mamba1"));
    if (const auto attention = config.integers("attn_layer_idx"); attention && !attention->empty()) {
      return "mamba_attention_hybrid";
    }
    if (layer == "Mamba1") return "mamba";
    if (layer == "Mamba2") return "mamba2";
    if (layer == "Mamba3") return "mamba3";
    return layer;
  }
  return fail(ErrorCode::kCorrupt,
              "[models] the configuration names no architecture: neither model_type nor general.architecture nor "
              "d_model and n_layer ({})",
              config.origin());
}

Result<std::string> architecture_name(const formats::WeightSource& source) {
  if (!source.config().values().empty()) return architecture_name(source.config());
  if (source.find("blocks.0.att.r_k") != nullptr || source.find("rwkv1.r_k") != nullptr) return "rwkv7";
  return fail(ErrorCode::kCorrupt,
              "[models] no configuration says what model this is, and its tensors are not named like RWKV-7's ({})",
              source.origin());
}

Result<std::unique_ptr<Model>> load_model(std::shared_ptr<const formats::WeightSource> source,
                                          const LoadOptions& options) {
  KRAIT_ASSIGN(const std::string name, architecture_name(*source));
  const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
  if (found == kArchitectures.end()) {
    return fail(ErrorCode::kUnsupported, "[models] architecture {} is not one of {} ({})", name,
                fmt::join(kNames, ", "), source->origin());
  }
  WeightLoader loader(source, options);
  if (loader.failed()) return std::unexpected(*loader.error());
  std::unique_ptr<Model> model = found->load(loader);
  if (loader.failed()) return std::unexpected(*loader.error());
  return model;
}

}  // namespace krait::models
