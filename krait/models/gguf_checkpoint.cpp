#include "krait/models/gguf_checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>

#include "krait/models/gguf_tables.h"
#include "krait/models/registry.h"

namespace krait::models {
namespace {

using formats::Config;
using Checkpoint = Result<std::shared_ptr<const formats::WeightSource>>;

bool has_inner_norms(const Config& metadata) {
  return metadata.boolean_or("mamba.ssm.dt_b_c_rms", false).value_or(false);
}

// A "granitehybrid" that has positions, and nothing that only Granite has.
bool is_bamba(const Config& metadata) {
  for (const char* key : {"embedding_scale", "residual_scale", "logit_scale", "attention.scale", "expert_count"}) {
    if (metadata.number_or(fmt::format("granitehybrid.{}", key), 0.0).value_or(1.0) != 0.0) return false;
  }
  return metadata.boolean_or("granitehybrid.rope.scaling.finetuned", true).value_or(false);
}

struct Translation {
  std::string_view architecture, gguf, transformers_class;
  void (*run)(GgufTranslation&, WeightLoader&);
  // Which of those of the same GGUF name a file is; the last one without.
  bool (*meant)(const Config&) = nullptr;
};

// clang-format off: a line each
constexpr std::array kTranslations = {
    Translation{"falcon_mamba", "mamba", "FalconMambaForCausalLM", gguf::translate_mamba, has_inner_norms},
    Translation{"mamba", "mamba", "MambaForCausalLM", gguf::translate_mamba},
    Translation{"mamba2", "mamba2", "Mamba2ForCausalLM", gguf::translate_mamba2},
    Translation{"rwkv7", "rwkv7", "RWKV7ForCausalLM", gguf::translate_rwkv7},
    Translation{"jamba", "jamba", "JambaForCausalLM", gguf::translate_jamba},
    Translation{"nemotron_h", "nemotron_h", "NemotronHForCausalLM", gguf::translate_nemotron},
    Translation{"nemotron_h", "nemotron_h_moe", "NemotronHForCausalLM", gguf::translate_nemotron},
    Translation{"bamba", "granitehybrid", "BambaForCausalLM", gguf::translate_bamba, is_bamba},
    Translation{"granitemoehybrid", "granitehybrid", "GraniteMoeHybridForCausalLM", gguf::translate_granite},
    Translation{"falcon_h1", "falcon-h1", "FalconH1ForCausalLM", gguf::translate_falcon_h1},
    Translation{"lfm2", "lfm2", "Lfm2ForCausalLM", gguf::translate_lfm2},
    Translation{"qwen3_next", "qwen3next", "Qwen3NextForCausalLM", gguf::translate_qwen},
};
// clang-format on

std::unexpected<Error> unknown(std::string_view architecture, std::string_view Translation::* name,
                               const formats::WeightSource& source) {
  std::vector<std::string_view> names;
  for (const Translation& translation : kTranslations) {
    if (std::ranges::find(names, translation.*name) == names.end()) names.push_back(translation.*name);
  }
  return fail(ErrorCode::kUnsupported, "[gguf] architecture {} is not one that can be written: {} ({})", architecture,
              fmt::join(names, ", "), source.origin());
}

Checkpoint translate(const std::shared_ptr<const formats::WeightSource>& source, GgufTranslation& translation,
                     void (*run)(GgufTranslation&, WeightLoader&)) {
  LoadOptions shapes;
  shapes.shapes_only = true;
  WeightLoader loader(source, shapes);
  run(translation, loader);
  if (loader.failed()) return std::unexpected(*loader.error());
  KRAIT_ASSIGN(auto checkpoint, translation.finish());
  // The model's own loader knows best whether a tensor is missing or misshapen.
  KRAIT_TRY(load_model(checkpoint, shapes));
  return checkpoint;
}

}  // namespace

Checkpoint as_gguf(std::shared_ptr<const formats::WeightSource> source) {
  KRAIT_ASSIGN(const std::string architecture, architecture_name(source->config()));
  const auto* found = std::ranges::find(kTranslations, architecture, &Translation::architecture);
  if (found == kTranslations.end()) return unknown(architecture, &Translation::architecture, *source);
  if (source->format() == "gguf" || source->config().has("d_model")) {
    return fail(ErrorCode::kUnsupported, "[gguf] the tensors do not have transformers' names ({})", source->origin());
  }
  const bool experts = architecture == "nemotron_h" && source->config().has("n_routed_experts");
  GgufTranslation translation(source, GgufTranslation::Direction::kToGguf,
                              std::string(experts ? "nemotron_h_moe" : found->gguf));
  return translate(source, translation, found->run);
}

Checkpoint as_transformers(std::shared_ptr<const formats::WeightSource> source, std::optional<DType> matrices) {
  if (source->format() != "gguf") {
    return fail(ErrorCode::kUnsupported, "[gguf] this is no GGUF but {} ({})", source->format(), source->origin());
  }
  const Config& metadata = source->config();
  KRAIT_ASSIGN(const std::string architecture, metadata.text("general.architecture"));
  const auto* found = std::ranges::find_if(kTranslations, [&](const Translation& t) {
    return t.gguf == architecture && (t.meant == nullptr || t.meant(metadata));
  });
  if (found == kTranslations.end()) return unknown(architecture, &Translation::gguf, *source);
  GgufTranslation translation(source, GgufTranslation::Direction::kFromGguf, architecture, matrices);
  translation.set_written("model_type", std::string(found->architecture));
  translation.set_written("architectures", std::vector{std::string(found->transformers_class)});
  for (const char* end : {"bos", "eos"}) {
    // Files write -1 or 2^32-1 for "none".
    const auto id = metadata.integer(fmt::format("tokenizer.ggml.{}_token_id", end));
    if (id && *id >= 0 && *id < (std::int64_t{1} << 31)) {
      translation.set_written(fmt::format("{}_token_id", end), *id);
    }
  }
  return translate(source, translation, found->run);
}

}  // namespace krait::models
