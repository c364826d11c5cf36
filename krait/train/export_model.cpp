// Trained models in the layouts that others read (trained_model.h, model_layout.h): config.json, model.safetensors,
// tokenizer.json.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>

#include "krait/formats/atomic_file.h"
#include "krait/formats/safetensors_writer.h"
#include "krait/formats/weight_source.h"
#include "krait/train/model_layout.h"
#include "krait/train/trained_model.h"

namespace krait::train {
namespace {

bool is_matrix(const std::string& name, const at::Tensor& parameter) {
  return parameter.dim() == 2 && !name.ends_with("A_log") && !name.ends_with("_bias") &&
         !name.ends_with("hash_projection");
}

// The parameters as the file has them, each made when it is asked for, wherever it is until then.
class ModelWeights final : public formats::WeightSource {
 public:
  ModelWeights(const nn::LanguageModel& model, DType matrices, const ModelLayout& layout) : model_(model) {
    for (const auto& parameter : model.named_parameters()) {
      const at::Tensor& tensor = parameter.value();
      const DType dtype = is_matrix(parameter.key(), tensor) ? matrices : DType::kF32;
      StoredParameter stored = layout.stored(parameter.key());
      const auto bytes = static_cast<std::uint64_t>(tensor.numel()) * (dtype == DType::kF32 ? 4 : 2);
      parameters_[stored.name] = {tensor, model.part_of(parameter.key()), stored.halves_exchanged};
      tensors_.push_back({std::move(stored.name), dtype, tensor.sizes().vec(), bytes});
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
    const Source& source = parameters_.find(name)->second;
    if (model_.keeper() != nullptr) model_.keeper()->fetch(source.part, -1);
    std::vector<std::byte>& bytes = bytes_[info->name];
    bytes = stored(source.tensor, info->dtype);
    if (source.halves_exchanged) {
      std::ranges::rotate(bytes, bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() / 2));
    }
    if (model_.keeper() != nullptr) model_.keeper()->leave(source.part);
    return TensorView{.dtype = info->dtype, .shape = info->shape, .bytes = bytes};
  }
  void release(std::string_view name) const override {
    if (const auto found = bytes_.find(name); found != bytes_.end()) bytes_.erase(found);
  }

 private:
  struct Source {
    at::Tensor tensor;
    std::int64_t part = 0;  // of the model
    bool halves_exchanged = false;
  };

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
  std::map<std::string, Source, std::less<>> parameters_;
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> bytes_;  // of those in view
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
  KRAIT_ASSIGN(const ModelLayout layout, layout_of(options, model.dimensions().padded_vocabulary, exported.end_token));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return fail(ErrorCode::kInputOutput, "[train] cannot make {}: {}", folder.string(), error.message());
  }
  const ModelWeights weights(model, exported.matrices, layout);
  KRAIT_TRY(formats::write_safetensors(folder / "model.safetensors", weights, {{"format", "pt"}}));
  KRAIT_TRY(write_text(folder / "config.json", layout.config));
  if (!tokenizer.empty()) {
    std::ifstream in(tokenizer, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in) return fail(ErrorCode::kInputOutput, "[train] cannot read {}", tokenizer.string());
    KRAIT_TRY(write_text(folder / "tokenizer.json", text));
  }
  return {};
}

}  // namespace krait::train
