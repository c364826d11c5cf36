// Trained models in the layouts that others read (trained_model.h): config.json, model.safetensors, tokenizer.json.
// Mamba and Mamba-2 as transformers has them, HAX as its authors' code has it. Mamba-3, which transformers does not
// have, as its authors do.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "krait/formats/atomic_file.h"
#include "krait/formats/safetensors_writer.h"
#include "krait/formats/weight_source.h"
#include "krait/train/trained_model.h"

namespace krait::train {
namespace {

using Json = nlohmann::ordered_json;

void name_end(Json& config, std::int64_t end_token) {
  if (end_token < 0) return;
  for (const char* name : {"bos_token_id", "eos_token_id", "pad_token_id"}) config[name] = end_token;
}

Json shared_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config{{"vocab_size", rows},       {"hidden_size", of.width},       {"num_hidden_layers", of.layers},
              {"expand", of.expand},      {"conv_kernel", of.conv_width},  {"use_bias", false},
              {"use_conv_bias", true},    {"hidden_act", "silu"},          {"layer_norm_epsilon", 1e-5},
              {"residual_in_fp32", true}, {"tie_word_embeddings", of.tied}};
  name_end(config, end_token);
  return config;
}

Json mamba_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config{{"architectures", {"MambaForCausalLM"}}, {"model_type", "mamba"}};
  config.update(shared_config(of, rows, end_token));
  config["state_size"] = of.states > 0 ? of.states : 16;
  config["intermediate_size"] = of.expand * of.width;
  config["time_step_rank"] = (of.width + 15) / 16;
  return config;
}

// Beside Mamba's: the two ways of choosing share the keys equally (models/mixers/hax.h).
Json hax_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config = mamba_config(of, rows, end_token);
  config["sparse_arch"] = of.selected_keys == 0 ? "sign_bin_lsh"
                          : of.recent_keys == 0 ? "key_selection"
                                                : "sign_bin_lsh+key_selection";
  config["sparse_keys"] = of.recent_keys + of.selected_keys;
  config["num_hash"] = of.hashes;
  return config;
}

Json mamba2_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config{{"architectures", {"Mamba2ForCausalLM"}}, {"model_type", "mamba2"}};
  config.update(shared_config(of, rows, end_token));
  config["state_size"] = of.states > 0 ? of.states : 128;
  config["num_heads"] = of.expand * of.width / of.head_width;
  config["head_dim"] = of.head_width;
  config["n_groups"] = of.groups;
  config["chunk_size"] = 64;
  config["rms_norm"] = true;
  config["norm_before_gate"] = false;
  return config;
}

// The authors' file does not say which token ends a text.
Json mamba3_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config{{"d_model", of.width},
              {"n_layer", of.layers},
              {"vocab_size", rows},
              {"ssm_cfg",
               {{"layer", "Mamba3"},
                {"d_state", of.states > 0 ? of.states : 128},
                {"expand", of.expand},
                {"headdim", of.head_width},
                {"ngroups", of.groups}}},
              {"rms_norm", true},
              {"residual_in_fp32", true},
              {"pad_vocab_size_multiple", 1},
              {"tie_embeddings", of.tied}};
  name_end(config, end_token);
  return config;
}

struct Layout {
  Json config;
  bool plural = false;  // transformers' "embeddings" for "embedding"
};

Result<Layout> layout_of(const TrainedModelOptions& options, std::int64_t rows, std::int64_t end_token) {
  const auto all = [&](std::string_view name) {
    return std::ranges::all_of(options.mixers, [&](const std::string& mixer) { return mixer == name; });
  };
  if (options.feed_forward == 0 && all("mamba")) return Layout{mamba_config(options, rows, end_token), true};
  if (options.feed_forward == 0 && all("mamba2")) return Layout{mamba2_config(options, rows, end_token), true};
  if (options.feed_forward == 0 && all("mamba3")) return Layout{mamba3_config(options, rows, end_token), false};
  const bool shares =
      options.recent_keys == 0 || options.selected_keys == 0 || options.recent_keys == options.selected_keys;
  if (options.feed_forward == 0 && all("hax") && shares) return Layout{hax_config(options, rows, end_token), true};
  return fail(ErrorCode::kUnsupported,
              "[train] no published layout has layers of {} with feed-forward layers of {}: the checkpoint keeps the "
              "weights",
              fmt::join(options.mixers, ", "), options.feed_forward);
}

bool is_matrix(const std::string& name, const at::Tensor& parameter) {
  return parameter.dim() == 2 && !name.ends_with("A_log") && !name.ends_with("_bias") &&
         !name.ends_with("hash_projection");
}

// The parameters as the file has them, each made when it is asked for, wherever it is until then.
class ModelWeights final : public formats::WeightSource {
 public:
  ModelWeights(const nn::LanguageModel& model, DType matrices, bool plural) : model_(model) {
    for (const auto& parameter : model.named_parameters()) {
      const at::Tensor& tensor = parameter.value();
      const DType dtype = is_matrix(parameter.key(), tensor) ? matrices : DType::kF32;
      std::string name = parameter.key();
      if (plural && name == "backbone.embedding.weight") name = "backbone.embeddings.weight";
      const auto bytes = static_cast<std::uint64_t>(tensor.numel()) * (dtype == DType::kF32 ? 4 : 2);
      parameters_[name] = {tensor, model.part_of(parameter.key())};
      tensors_.push_back({std::move(name), dtype, tensor.sizes().vec(), bytes});
    }
    std::ranges::sort(tensors_, {}, &formats::TensorInfo::name);
  }

  std::string_view format() const override { return "krait's training"; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return "the model"; }

  Result<TensorView> view(std::string_view name) const override {
    const formats::TensorInfo* info = find(name);
    if (info == nullptr) return fail(ErrorCode::kNotFound, "[train] the model has no {}", name);
    const auto& [tensor, part] = parameters_.find(name)->second;
    if (model_.keeper() != nullptr) model_.keeper()->fetch(part, -1);
    std::vector<std::byte>& bytes = bytes_[info->name];
    bytes = stored(tensor, info->dtype);
    if (model_.keeper() != nullptr) model_.keeper()->leave(part);
    return TensorView{.dtype = info->dtype, .shape = info->shape, .bytes = bytes};
  }
  void release(std::string_view name) const override {
    if (const auto found = bytes_.find(name); found != bytes_.end()) bytes_.erase(found);
  }

 private:
  static std::vector<std::byte> stored(const at::Tensor& parameter, DType dtype) {
    const auto* values = parameter.data_ptr<float>();
    const auto count = static_cast<std::size_t>(parameter.numel());
    std::vector<std::byte> bytes(count * (dtype == DType::kF32 ? 4 : 2));
    for (std::size_t i = 0; i < count; ++i) {
      if (dtype == DType::kF32) {
        std::memcpy(bytes.data() + 4 * i, values + i, 4);
      } else {
        const std::uint16_t rounded = f32_to_bf16(values[i]);
        std::memcpy(bytes.data() + 2 * i, &rounded, 2);
      }
    }
    return bytes;
  }

  const nn::LanguageModel& model_;
  formats::Config config_;
  std::vector<formats::TensorInfo> tensors_;
  std::map<std::string, std::pair<at::Tensor, std::int64_t>, std::less<>> parameters_;  // with their parts
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> bytes_;            // of those in view
};

Result<void> write_text(const std::filesystem::path& path, const std::string& text) {
  formats::AtomicFile file(path);
  file.write(text.data(), text.size());
  return file.commit("train");
}

}  // namespace

Result<void> export_model(const nn::LanguageModel& model, const TrainedModelOptions& options,
                          const ExportOptions& exported, const std::filesystem::path& tokenizer,
                          const std::filesystem::path& folder) {
  if (exported.matrices != DType::kF32 && exported.matrices != DType::kBF16) {
    return fail(ErrorCode::kInvalidArgument, "[train] matrices are exported as f32 or bf16, not {}",
                to_string(exported.matrices));
  }
  KRAIT_ASSIGN(const Layout layout, layout_of(options, model.dimensions().padded_vocabulary, exported.end_token));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return fail(ErrorCode::kInputOutput, "[train] cannot make {}: {}", folder.string(), error.message());
  }
  const ModelWeights weights(model, exported.matrices, layout.plural);
  KRAIT_TRY(formats::write_safetensors(folder / "model.safetensors", weights, {{"format", "pt"}}));
  KRAIT_TRY(write_text(folder / "config.json", layout.config.dump(1) + "\n"));
  if (!tokenizer.empty()) {
    std::ifstream in(tokenizer, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in) return fail(ErrorCode::kInputOutput, "[train] cannot read {}", tokenizer.string());
    KRAIT_TRY(write_text(folder / "tokenizer.json", text));
  }
  return {};
}

}  // namespace krait::train
