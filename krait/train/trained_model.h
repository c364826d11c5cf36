// Which model is trained: the dimensions that a configuration states, the module that follows from them, and the folder
// in transformers' layout that it is exported to, which krait runs, converts and quantizes like any other.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/dtype.h"
#include "krait/core/error.h"
#include "krait/nn/language_model.h"

namespace krait::train {

struct TrainedModelOptions {
  // The mixers, layer by layer, repeated as often as it takes: {"mamba2"}, or {"mamba2", "mamba2", "attention"}.
  std::vector<std::string> mixers = {"mamba2"};
  std::int64_t vocabulary = 0;  // V
  std::int64_t width = 256;     // D
  std::int64_t layers = 6;
  std::int64_t expand = 2;         // E = expand D
  std::int64_t states = 0;         // N; 0: the paper's, 16 for mamba and 128 for mamba2
  std::int64_t head_width = 64;    // P
  std::int64_t groups = 1;         // G
  std::int64_t conv_width = 4;     // K
  std::int64_t window = 0;         // tokens that attention sees, 0: all; of bmojo 64
  std::int64_t rotary = 0;         // entries of each head of attention that turn with the position, even
  std::int64_t eidetic = 32;       // of bmojo: tokens in its store, 0: none
  std::string fading = "mamba";    // of bmojo: the mixer for what is out of the window
  std::int64_t hashes = 4;         // of hax: bits of a bucket's number,
  std::int64_t recent_keys = 8;    // keys of a bucket, 0: no hashing,
  std::int64_t selected_keys = 8;  // and keys of the highest scores, 0: no selection
  double ranking_weight = 0.1;     // of the loss by which hax learns its scores
  std::int64_t feed_forward = 0;   // F, 0: none
  std::int64_t padding = 1;        // the table's rows are a multiple of it
  bool tied = true;
  std::uint64_t seed = 0;

  const std::string& mixer(std::int64_t layer) const { return mixers[static_cast<std::size_t>(layer) % mixers.size()]; }
  std::int64_t mamba_states() const { return states > 0 ? states : 16; }  // of hax as well
  std::int64_t ssd_states() const { return states > 0 ? states : 128; }   // of mamba2 and mamba3
  std::int64_t inner_heads() const { return expand * width / head_width; }
  std::int64_t attention_heads() const { return width / head_width; }
};

// The names that `mixers` knows, and those that `fading` does.
std::vector<std::string> mixer_names();
std::vector<std::string_view> fading_mixer_names();

// kInvalidArgument for dimensions that do not go together. The same seed gives the same model. `made` may take parts
// of it elsewhere before the next is made.
Result<std::shared_ptr<nn::LanguageModel>> make_model(const TrainedModelOptions& options,
                                                      const nn::LanguageModel::MadePart& made = {});

struct ExportOptions {
  DType matrices = DType::kF32;  // or bf16, f16; vectors stay f32
  std::int64_t end_token = -1;   // of a text, for config.json; -1: none
};

// config.json and model.safetensors, and a copy of tokenizer.json where there is one. Files appear when complete.
// kUnsupported for a pattern of mixers that no published architecture has.
Result<void> export_model(const nn::LanguageModel& model, const TrainedModelOptions& options,
                          const ExportOptions& exported, const std::filesystem::path& tokenizer,
                          const std::filesystem::path& folder);

}  // namespace krait::train
