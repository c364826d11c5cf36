#include "krait/models/registry.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "krait/models/architectures.h"

namespace krait::models {
namespace {

struct Architecture {
  ArchitectureFacts facts;
  std::unique_ptr<Model> (*load)(WeightLoader&);
};

// What logits were compared with. Ours: plain float64 loops that share nothing with the engine (tests/golden).
constexpr std::string_view kTransformers = "transformers, float64";
constexpr std::string_view kAuthors = "its authors' reference code";
constexpr std::string_view kLlama = "llama.cpp";
constexpr std::string_view kLoops = "plain float64 loops";
constexpr std::string_view kBoth = "transformers, float64; llama.cpp";
constexpr std::string_view kLoopsAndLlama = "plain float64 loops; llama.cpp";

// clang-format off: a line each
constexpr std::array kArchitectures = {
    Architecture{{"mamba", "Mamba", "transformers, original, GGUF", kBoth, ""}, load_mamba},
    Architecture{{"falcon_mamba", "FalconMamba", "transformers, GGUF", kTransformers, ""}, load_mamba},
    Architecture{{"mamba2", "Mamba-2, Codestral-Mamba", "transformers, original, Mistral's, GGUF", kBoth, "no d_ssm below the inner width"}, load_mamba2},
    Architecture{{"mamba3", "Mamba-3", "original", kAuthors, ""}, load_mamba3},
    Architecture{{"hax_mamba", "HAX on Mamba", "transformers, with hash_projection", kLoops, "no sliding, dilated or sink patterns"}, load_mamba},
    Architecture{{"hax_mamba2", "HAX on Mamba-2", "transformers, with hash_projection", kLoops, "no sliding, dilated or sink patterns"}, load_mamba2},
    Architecture{{"rwkv7", "RWKV-7", "its authors' .pth, transformers, GGUF", kLoops, "converted between transformers' names and GGUF alone"}, load_rwkv7},
    Architecture{{"jamba", "Jamba", "transformers, GGUF", kBoth, ""}, load_jamba},
    Architecture{{"nemotron_h", "Nemotron-H", "NVIDIA's, transformers, GGUF", kBoth, "multi-token prediction heads are left aside"}, load_nemotron_h},
    Architecture{{"nemotron_h_moe", "Nemotron-H with experts", "GGUF", kTransformers, ""}, load_nemotron_h},
    Architecture{{"bamba", "Bamba", "transformers", kLoops, "no scaled positions"}, load_bamba},
    Architecture{{"granitemoehybrid", "Granite 4 hybrids", "transformers", kLoops, "no scaled positions"}, load_granite_hybrid},
    Architecture{{"granitehybrid", "Granite 4 hybrids, Bamba", "GGUF", kLoopsAndLlama, ""}, load_granite_hybrid},
    Architecture{{"falcon_h1", "Falcon-H1", "transformers", kLoops, "no scaled positions"}, load_falcon_h1},
    Architecture{{"falcon-h1", "Falcon-H1", "GGUF", kLoopsAndLlama, ""}, load_falcon_h1},
    Architecture{{"lfm2", "LFM2", "transformers, GGUF", kLoopsAndLlama, "no experts"}, load_lfm2},
    Architecture{{"qwen3_next", "Qwen3-Next", "transformers", kLoops, "experts in all layers or none"}, load_qwen3_next},
    Architecture{{"qwen3next", "Qwen3-Next", "GGUF", kLlama, ""}, load_qwen3_next},
    Architecture{{"qwen3_5", "Qwen3.5", "transformers", kTransformers, "text alone; no GGUF"}, load_qwen3_next},
    Architecture{{"qwen3_5_moe", "Qwen3.5 with experts", "transformers", kTransformers, "text alone; no GGUF"}, load_qwen3_next},
    Architecture{{"hybrid_qwen3", "Qwen3 with B'MOJO-F, Mamba-2, Gated DeltaNet", "Hybrid Model Factory's", kLoops, "no Gated KalmaNet; the eidetic store is krait's own"}, load_hybrid_qwen3},
    Architecture{{"zamba2", "Zamba2", "transformers", kLoops, "no biases, no long-context scaling"}, load_zamba2},
    Architecture{{"phi4flash", "SambaY, Phi-4-mini-flash", "Microsoft's", kLoops, ""}, load_phi4flash},
    Architecture{{"samba", "Samba", "its authors' (lit-gpt)", kLoops, "no biases"}, load_samba},
};
// clang-format on

constexpr auto kFacts = [] {
  std::array<ArchitectureFacts, kArchitectures.size()> facts;
  std::ranges::transform(kArchitectures, facts.begin(), &Architecture::facts);
  return facts;
}();

constexpr auto kNames = [] {
  std::array<std::string_view, kArchitectures.size()> names;
  std::ranges::transform(kFacts, names.begin(), &ArchitectureFacts::name);
  return names;
}();

}  // namespace

std::span<const std::string_view> architecture_names() { return kNames; }

std::span<const ArchitectureFacts> architecture_facts() { return kFacts; }

Result<std::string> architecture_name(const formats::Config& config) {
  if (config.has("general.architecture")) return config.text("general.architecture");
  // Mistral's params.json of Codestral-Mamba calls a Mamba-2 "mamba".
  if (config.has("dim") && config.has("n_groups")) return "mamba2";
  if (config.has("model_type")) {
    KRAIT_ASSIGN(std::string type, config.text("model_type"));
    // HAX's authors leave model_type what it was.
    const bool hax = config.has("sparse_arch") && (type == "mamba" || type == "mamba2");
    return hax ? "hax_" + type : type;
  }
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
  const auto* found = std::ranges::find(kArchitectures, name, [](const Architecture& a) { return a.facts.name; });
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
