#include "krait/models/gguf_checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/models/registry.h"

namespace krait::models {
namespace {

enum class Form {
  kMatrix,       // as it stands
  kVector,       // f32
  kColumn,       // f32, [H] as [H, 1]
  kConvolution,  // f32, [C, 1, K] as [C, K]
  kGroups,       // f32, [E] as [G, E / G]
  kDecay,        // f32, A_log as -exp(A_log); Mamba-2's [H] as [H, 1]
};

struct Renaming {
  std::string_view from;
  std::string_view to;
  Form form;
};

constexpr std::array kWhole = {
    Renaming{"backbone.embeddings.weight", "token_embd.weight", Form::kMatrix},
    Renaming{"backbone.norm_f.weight", "output_norm.weight", Form::kVector},
    Renaming{"lm_head.weight", "output.weight", Form::kMatrix},
};
constexpr std::array kMambaLayer = {
    Renaming{"norm.weight", "attn_norm.weight", Form::kVector},
    Renaming{"mixer.in_proj.weight", "ssm_in.weight", Form::kMatrix},
    Renaming{"mixer.conv1d.weight", "ssm_conv1d.weight", Form::kConvolution},
    Renaming{"mixer.conv1d.bias", "ssm_conv1d.bias", Form::kVector},
    Renaming{"mixer.x_proj.weight", "ssm_x.weight", Form::kMatrix},
    Renaming{"mixer.dt_proj.weight", "ssm_dt.weight", Form::kMatrix},
    Renaming{"mixer.dt_proj.bias", "ssm_dt.bias", Form::kVector},
    Renaming{"mixer.A_log", "ssm_a", Form::kDecay},
    Renaming{"mixer.D", "ssm_d", Form::kVector},
    Renaming{"mixer.out_proj.weight", "ssm_out.weight", Form::kMatrix},
};
constexpr std::array kMamba2Layer = {
    Renaming{"norm.weight", "attn_norm.weight", Form::kVector},
    Renaming{"mixer.in_proj.weight", "ssm_in.weight", Form::kMatrix},
    Renaming{"mixer.conv1d.weight", "ssm_conv1d.weight", Form::kConvolution},
    Renaming{"mixer.conv1d.bias", "ssm_conv1d.bias", Form::kVector},
    Renaming{"mixer.dt_bias", "ssm_dt.bias", Form::kVector},
    Renaming{"mixer.A_log", "ssm_a", Form::kDecay},
    Renaming{"mixer.D", "ssm_d", Form::kColumn},
    Renaming{"mixer.norm.weight", "ssm_norm.weight", Form::kGroups},
    Renaming{"mixer.out_proj.weight", "ssm_out.weight", Form::kMatrix},
};

struct Place {
  std::string name;
  Form form;
};

// Where a tensor stands in GGUF; nothing when it has no place there.
std::optional<Place> place_of(std::string_view name, std::span<const Renaming> layer) {
  const auto* whole = std::ranges::find(kWhole, name, &Renaming::from);
  if (whole != kWhole.end()) return Place{std::string(whole->to), whole->form};
  constexpr std::string_view kLayers = "backbone.layers.";
  if (!name.starts_with(kLayers)) return std::nullopt;
  name.remove_prefix(kLayers.size());
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  name.remove_prefix(static_cast<std::size_t>(end + 1 - name.data()));
  const auto found = std::ranges::find(layer, name, &Renaming::from);
  if (found == layer.end()) return std::nullopt;
  return Place{fmt::format("blk.{}.{}", number, found->to), found->form};
}

class GgufCheckpoint final : public formats::WeightSource {
 public:
  explicit GgufCheckpoint(std::shared_ptr<const formats::WeightSource> source)
      : source_(std::move(source)), config_(source_->origin()) {}

  std::string_view format() const override { return "gguf"; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return source_->origin(); }
  Result<TensorView> view(std::string_view name) const override {
    const auto found = bytes_.find(name);
    const formats::TensorInfo* info = find(name);
    if (found == bytes_.end() || info == nullptr) {
      return fail(ErrorCode::kNotFound, "[gguf] no tensor \"{}\" ({})", name, origin());
    }
    return TensorView{info->dtype, info->shape, found->second};
  }

  Result<void> fill() {
    KRAIT_ASSIGN(architecture_, architecture_name(source_->config()));
    if (architecture_ != "mamba" && architecture_ != "mamba2") {
      return fail(ErrorCode::kUnsupported, "[gguf] architecture {} is not one that can be written: mamba, mamba2 ({})",
                  architecture_, origin());
    }
    if (source_->format() == "gguf" || source_->find("backbone.embeddings.weight") == nullptr) {
      return fail(ErrorCode::kUnsupported, "[gguf] the tensors do not have transformers' names ({})", origin());
    }
    KRAIT_TRY(check_graph());
    KRAIT_TRY(fill_tensors());
    return fill_metadata();
  }

 private:
  bool second() const { return architecture_ == "mamba2"; }

  Result<std::int64_t> groups() const { return source_->config().integer_or("n_groups", 8); }

  // What the equations of GGUF's architectures leave no choice in.
  Result<void> check_graph() const {
    if (!second()) return {};
    const formats::Config& config = source_->config();
    KRAIT_ASSIGN(const bool norm, config.boolean_or("rms_norm", true));
    KRAIT_ASSIGN(const bool before, config.boolean_or("norm_before_gate", false));
    if (!norm || before) {
      return fail(ErrorCode::kUnsupported,
                  "[gguf] a mamba2 there has its norm after the gate: rms_norm {}, "
                  "norm_before_gate {} ({})",
                  norm, before, origin());
    }
    if (!config.has("time_step_limit")) return {};
    KRAIT_ASSIGN(const std::vector<double> limit, config.numbers("time_step_limit"));
    if (limit.size() != 2 || limit[0] > 0 || std::isfinite(limit[1])) {
      return fail(ErrorCode::kUnsupported, "[gguf] a mamba2 there has no limits of the time step ({})", origin());
    }
    return {};
  }

  Result<void> fill_tensors() {
    const std::span<const Renaming> layer = second() ? std::span<const Renaming>(kMamba2Layer) : kMambaLayer;
    const formats::Config& config = source_->config();
    KRAIT_ASSIGN(const bool tied, config.boolean_or("tie_word_embeddings", false));
    for (const formats::TensorInfo& tensor : source_->tensors()) {
      if (tied && tensor.name == "lm_head.weight") continue;
      const auto place = place_of(tensor.name, layer);
      if (!place) {
        return fail(ErrorCode::kUnsupported, "[gguf] tensor {} has no place in a {} ({})", tensor.name, architecture_,
                    origin());
      }
      KRAIT_TRY(fill_tensor(tensor, *place));
    }
    std::ranges::sort(tensors_, {}, &formats::TensorInfo::name);
    return {};
  }

  Result<void> fill_tensor(const formats::TensorInfo& tensor, const Place& place) {
    KRAIT_ASSIGN(const TensorView view, source_->view(tensor.name));
    formats::TensorInfo info{place.name, view.dtype, view.shape, view.bytes.size()};
    std::span<const std::byte> bytes = view.bytes;
    if (place.form != Form::kMatrix && (view.dtype != DType::kF32 || place.form == Form::kDecay)) {
      const auto count = static_cast<std::size_t>(element_count(view.shape).value_or(0));
      AlignedBuffer& buffer = buffers_.emplace_back(count * sizeof(float));
      const std::span<float> values = buffer.as<float>();
      KRAIT_TRY(formats::read_as_f32(view, values));
      if (place.form == Form::kDecay) {
        std::ranges::transform(values, values.begin(),
                               [](float log) { return static_cast<float>(-std::exp(static_cast<double>(log))); });
      }
      info.dtype = DType::kF32;
      bytes = std::as_bytes(values);
    }
    Shape& shape = info.shape;
    if (place.form == Form::kColumn || (place.form == Form::kDecay && second())) shape.push_back(1);
    if (place.form == Form::kConvolution && shape.size() == 3 && shape[1] == 1) shape.erase(shape.begin() + 1);
    if (place.form == Form::kGroups && !shape.empty()) {
      KRAIT_ASSIGN(const std::int64_t groups, this->groups());
      if (groups < 1 || shape[0] % groups != 0) {
        return fail(ErrorCode::kCorrupt, "[gguf] tensor {} of shape {} does not divide into {} groups ({})",
                    tensor.name, to_string(shape), groups, origin());
      }
      shape = {groups, shape[0] / groups};
    }
    info.bytes = bytes.size();
    bytes_.emplace(info.name, bytes);
    tensors_.push_back(std::move(info));
    return {};
  }

  // Dimension `axis` of a tensor of this checkpoint.
  Result<std::int64_t> dimension(std::string_view name, std::size_t axis) const {
    const formats::TensorInfo* info = find(name);
    if (info == nullptr || info->shape.size() <= axis) {
      return fail(ErrorCode::kCorrupt, "[gguf] no tensor {} of {} dimensions or more ({})", name, axis + 1, origin());
    }
    return info->shape[axis];
  }

  Result<void> fill_metadata() {
    const formats::Config& from = source_->config();
    KRAIT_ASSIGN(const std::int64_t layers, from.integer("num_hidden_layers"));
    KRAIT_ASSIGN(const double epsilon, from.number_or("layer_norm_epsilon", 1e-5));
    KRAIT_ASSIGN(const std::int64_t vocabulary, dimension("token_embd.weight", 0));
    KRAIT_ASSIGN(const std::int64_t width, dimension("token_embd.weight", 1));
    KRAIT_ASSIGN(const std::int64_t inner, dimension("blk.0.ssm_out.weight", 1));
    KRAIT_ASSIGN(const std::int64_t conv_width, dimension("blk.0.ssm_conv1d.weight", 1));
    KRAIT_ASSIGN(const std::int64_t rank, second() ? dimension("blk.0.ssm_a", 0) : dimension("blk.0.ssm_dt.weight", 1));
    KRAIT_ASSIGN(const std::int64_t states,
                 second() ? from.integer_or("state_size", 128) : dimension("blk.0.ssm_a", 1));
    if (!second() && inner != 2 * width) {
      return fail(ErrorCode::kUnsupported, "[gguf] a mamba there is twice as wide inside: {} and {} ({})", width, inner,
                  origin());
    }
    const auto set = [this](std::string_view key, formats::Config::Value value) {
      config_.set(fmt::format("{}.{}", architecture_, key), std::move(value));
    };
    config_.set("general.architecture", architecture_);
    config_.set("general.file_type", file_type(find("blk.0.ssm_out.weight")->dtype));
    // Neither has a longest context or anything of a transformer; llama.cpp asks all the same.
    set("context_length", std::int64_t{1} << 20);
    set("feed_forward_length", std::int64_t{0});
    set("attention.head_count", std::int64_t{0});
    set("attention.layer_norm_rms_epsilon", epsilon);
    set("block_count", layers);
    set("embedding_length", width);
    set("vocab_size", vocabulary);
    set("ssm.conv_kernel", conv_width);
    set("ssm.inner_size", inner);
    set("ssm.state_size", states);
    set("ssm.time_step_rank", rank);
    if (second()) {
      KRAIT_ASSIGN(const std::int64_t groups, this->groups());
      set("ssm.group_count", groups);
    } else {
      set("ssm.dt_b_c_rms", false);
    }
    return {};
  }

  // llama_ftype of llama.h, which is what llama.cpp prints as the file's type.
  static std::int64_t file_type(DType dtype) { return dtype == DType::kF16 ? 1 : dtype == DType::kBF16 ? 32 : 0; }

  std::shared_ptr<const formats::WeightSource> source_;
  formats::Config config_;
  std::string architecture_;
  std::vector<formats::TensorInfo> tensors_;  // sorted by name
  std::map<std::string, std::span<const std::byte>, std::less<>> bytes_;
  std::vector<AlignedBuffer> buffers_;
};

}  // namespace

Result<std::shared_ptr<const formats::WeightSource>> as_gguf(std::shared_ptr<const formats::WeightSource> source) {
  auto checkpoint = std::make_shared<GgufCheckpoint>(std::move(source));
  KRAIT_TRY(checkpoint->fill());
  // The model's own loader knows best whether a tensor is missing or misshapen.
  LoadOptions shapes;
  shapes.shapes_only = true;
  KRAIT_TRY(load_model(checkpoint, shapes));
  return checkpoint;
}

}  // namespace krait::models
