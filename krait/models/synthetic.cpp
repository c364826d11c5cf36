#include "krait/models/synthetic.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/core/random.h"
#include "krait/models/planned_source.h"

namespace krait::models {
namespace {

constexpr std::array kShapes = {
    SyntheticShape{"mamba-130m", "mamba", 24, 768, 50280},
    SyntheticShape{"mamba-370m", "mamba", 48, 1024, 50280},
    SyntheticShape{"mamba2-130m", "mamba2", 24, 768, 50288, 128},
    SyntheticShape{"mamba2-370m", "mamba2", 48, 1024, 50288, 128},
    SyntheticShape{"mamba3-130m", "mamba3", 24, 768, 50288, 128},
    SyntheticShape{"mamba3-mimo-130m", "mamba3", 24, 768, 50288, 128, 64, 1, 4},
    SyntheticShape{"rwkv7-0.1b", "rwkv7", 12, 768, 65536},
    // A quarter of Jamba-v0.1's depth and a quarter of its width: 4 of 16 layers attend, 8 have 16 experts.
    SyntheticShape{.name = "jamba-0.4b",
                   .architecture = "jamba",
                   .config = R"({"model_type": "jamba", "vocab_size": 65536, "hidden_size": 1024,
                       "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 16,
                       "num_key_value_heads": 4, "attn_layer_period": 8, "attn_layer_offset": 4, "num_experts": 16,
                       "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
                       "tie_word_embeddings": true})"},
    SyntheticShape{.name = "falcon-h1-0.5b",
                   .architecture = "falcon_h1",
                   .config = R"({"model_type": "falcon_h1", "vocab_size": 32784, "hidden_size": 1024,
                       "intermediate_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 8,
                       "num_key_value_heads": 2, "head_dim": 64, "mamba_d_ssm": 1536, "mamba_n_heads": 24,
                       "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 128, "mamba_d_conv": 4,
                       "mamba_rms_norm": false, "rope_theta": 1e11, "tie_word_embeddings": false})"},
    SyntheticShape{.name = "granite-4.0-h-350m",
                   .architecture = "granitemoehybrid",
                   .config = R"({"model_type": "granitemoehybrid", "vocab_size": 100352, "hidden_size": 768,
                       "num_hidden_layers": 32, "num_attention_heads": 12, "num_key_value_heads": 4,
                       "shared_intermediate_size": 2048, "mamba_n_heads": 48, "mamba_d_head": 32,
                       "mamba_n_groups": 1, "mamba_d_state": 128, "mamba_expand": 2, "num_local_experts": 0,
                       "position_embedding_type": "nope", "attention_multiplier": 0.015625,
                       "embedding_multiplier": 12, "residual_multiplier": 0.246, "logits_scaling": 3,
                       "tie_word_embeddings": true, "layer_types": ["mamba", "mamba", "mamba", "mamba", "mamba",
                       "mamba", "mamba", "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "attention",
                       "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "mamba", "mamba", "mamba", "mamba",
                       "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "mamba", "mamba"]})"},
    // Half of Qwen3-Next's width, a quarter of its depth, an eighth of its experts: 0.3 of 1 billion parameters work.
    SyntheticShape{.name = "qwen3-next-1b-a0.3b",
                   .architecture = "qwen3_next",
                   .config = R"({"model_type": "qwen3_next", "vocab_size": 151936, "hidden_size": 1024,
                       "num_hidden_layers": 12, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
                       "linear_num_key_heads": 8, "linear_num_value_heads": 16, "linear_key_head_dim": 128,
                       "linear_value_head_dim": 128, "num_experts": 64, "num_experts_per_tok": 8,
                       "moe_intermediate_size": 256, "shared_expert_intermediate_size": 256,
                       "tie_word_embeddings": true})"},
    SyntheticShape{.name = "lfm2-350m",
                   .architecture = "lfm2",
                   .config = R"({"model_type": "lfm2", "vocab_size": 65536, "hidden_size": 1024,
                       "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 8,
                       "block_ff_dim": 6656, "block_auto_adjust_ff_dim": true, "block_multiple_of": 256,
                       "block_ffn_dim_multiplier": 1.0, "conv_L_cache": 3, "tie_word_embeddings": true,
                       "full_attn_idxs": [2, 5, 8, 10, 12, 14]})"},
};

class SyntheticSource final : public formats::WeightSource {
 public:
  SyntheticSource(const SyntheticShape& shape, DType dtype, std::uint64_t seed)
      : shape_(shape), dtype_(dtype), seed_(seed), random_(seed), config_(fmt::format("synthetic {}", shape.name)) {
    KRAIT_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16, "synthetic weights of {}",
                to_string(dtype));
    if (!shape.config.empty()) {
      planned();
    } else if (shape.architecture == "rwkv7") {
      rwkv7();
    } else {
      backbone();
    }
    std::ranges::sort(tensors_, {}, &formats::TensorInfo::name);
  }

  std::string_view format() const override { return "synthetic"; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return config_.origin(); }
  Result<TensorView> view(std::string_view name) const override {
    const formats::TensorInfo* info = find(name);
    if (info == nullptr) return fail(ErrorCode::kNotFound, "[synthetic] no tensor {} in {}", name, origin());
    const std::lock_guard lock(mutex_);
    auto found = data_.find(name);
    if (found == data_.end()) {
      found = data_.emplace(name, AlignedBuffer(info->bytes)).first;
      draw_rows(*info, 0, *element_count(info->shape) / info->shape.back(), found->second.data());
    }
    return TensorView{info->dtype, info->shape, {found->second.data(), info->bytes}};
  }
  Result<void> read_rows(const formats::TensorInfo& tensor, std::int64_t first, std::int64_t count,
                         std::span<float> out) const override {
    if (!bounds_.contains(tensor.name) || tensor.dtype != DType::kF32) {
      return WeightSource::read_rows(tensor, first, count, out);
    }
    draw_rows(tensor, first, count, reinterpret_cast<std::byte*>(out.data()));
    return {};
  }
  void release(std::string_view name) const override {
    const std::lock_guard lock(mutex_);
    if (const auto found = data_.find(name); found != data_.end() && bounds_.contains(name)) data_.erase(found);
  }

 private:
  void backbone() {
    if (shape_.architecture == "mamba3") {
      mamba3_config();
    } else {
      config_.set("model_type", std::string(shape_.architecture));
      config_.set("hidden_size", shape_.width);
      config_.set("num_hidden_layers", shape_.layers);
      config_.set("state_size", shape_.states);
      config_.set("tie_word_embeddings", true);
    }
    uniform("backbone.embeddings.weight", {shape_.vocabulary, shape_.width}, 0.02 * std::sqrt(3.0));
    constant("backbone.norm_f.weight", shape_.width, 1.0F);
    for (std::int64_t i = 0; i < shape_.layers; ++i) {
      const std::string layer = fmt::format("backbone.layers.{}.", i);
      constant(layer + "norm.weight", shape_.width, 1.0F);
      if (shape_.architecture == "mamba2") {
        mamba2_mixer(layer + "mixer.");
      } else if (shape_.architecture == "mamba3") {
        mamba3_mixer(layer + "mixer.");
      } else {
        mamba_mixer(layer + "mixer.");
      }
    }
  }

  void rwkv7() {
    config_.set("model_type", std::string("rwkv7"));
    const std::int64_t width = shape_.width;
    uniform("emb.weight", {shape_.vocabulary, width}, 0.02 * std::sqrt(3.0));
    for (const char* norm : {"blocks.0.ln0", "ln_out"}) layer_norm(norm);
    for (std::int64_t i = 0; i < shape_.layers; ++i) {
      const std::string layer = fmt::format("blocks.{}.", i);
      layer_norm(layer + "ln1");
      layer_norm(layer + "ln2");
      rwkv7_time_mix(layer + "att.");
      between(layer + "ffn.x_k", {1, 1, width}, 0.0, 1.0);
      linear(layer + "ffn.key.weight", 4 * width, width);
      linear(layer + "ffn.value.weight", width, 4 * width, std::sqrt(static_cast<double>(shape_.layers)));
    }
    linear("head.weight", shape_.vocabulary, width);
  }

  void rwkv7_time_mix(const std::string& prefix) {
    const std::int64_t width = shape_.width;
    for (const char* mix : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"}) between(prefix + mix, {1, 1, width}, 0.0, 1.0);
    for (const char* matrix : {"receptance", "key", "value"}) linear(prefix + matrix + ".weight", width, width);
    linear(prefix + "output.weight", width, width, std::sqrt(static_cast<double>(shape_.layers)));
    // The authors' ranks for a width: multiples of 32.
    const std::array<std::pair<char, double>, 4> ranks = {{{'w', 2.5}, {'a', 2.5}, {'v', 1.7}, {'g', 5.0}}};
    for (const auto& [letter, factor] : ranks) {
      const double root = std::sqrt(static_cast<double>(width));
      const std::int64_t rank = std::max<std::int64_t>(32, std::llround(factor * root / 32.0) * 32);
      uniform(fmt::format("{}{}1", prefix, letter), {width, rank}, 1.0 / root);
      uniform(fmt::format("{}{}2", prefix, letter), {rank, width}, 1.0 / std::sqrt(static_cast<double>(rank)));
    }
    between(prefix + "w0", {1, 1, width}, -6.0, 0.0);
    between(prefix + "a0", {1, 1, width}, -0.5, 0.5);
    between(prefix + "v0", {1, 1, width}, 0.5, 1.0);
    between(prefix + "k_k", {1, 1, width}, 0.6, 0.8);
    between(prefix + "k_a", {1, 1, width}, 0.9, 1.1);
    between(prefix + "r_k", {width / shape_.head_width, shape_.head_width}, -0.1, 0.1);
    layer_norm(prefix + "ln_x");
  }

  // Every tensor that the architecture's own loader asks for, by what its name says it is.
  void planned() {
    auto config = formats::Config::parse_json(shape_.config, config_.origin());
    KRAIT_CHECK(config.has_value(), "configuration of {}", shape_.name);
    auto plan = plan_checkpoint(*config, dtype_);
    if (!plan) throw InternalError(plan.error().message);
    config_ = *std::move(config);
    for (const formats::TensorInfo& tensor : (*plan)->tensors()) draw(tensor.name, tensor.shape);
  }

  void draw(const std::string& name, const Shape& shape) {
    const std::int64_t count = *element_count(shape);
    const auto is = [&](std::string_view part) { return name.find(part) != std::string::npos; };
    if (is("A_log")) {
      float* a_log = add(name, shape, DType::kF32);
      for (std::int64_t i = 0; i < count; ++i) {
        a_log[i] = shape.size() == 2 ? std::log(static_cast<float>(1 + i % shape.back()))
                                     : static_cast<float>(std::log(1.0 + 15.0 * random_.uniform()));
      }
    } else if (is("dt_bias") || is("dt_proj.bias")) {
      time_step_bias(name, count);
    } else if (is("conv")) {
      if (is("proj")) return linear(name, shape.front(), shape.back());
      between(name, shape, -0.5, 0.5);
    } else if (is("norm") || name.ends_with(".D")) {
      constant(name, count, 1.0F);
    } else if (is("embed")) {
      uniform(name, shape, 0.02 * std::sqrt(3.0));
    } else if (shape.size() >= 2) {
      uniform(name, shape, 1.0 / std::sqrt(static_cast<double>(shape.back())));
    } else {
      between(name, shape, -0.1, 0.1);
    }
  }

  void layer_norm(const std::string& name) {
    constant(name + ".weight", shape_.width, 1.0F);
    constant(name + ".bias", shape_.width, 0.0F);
  }

  // Small parameters, f32 whatever the matrices are.
  void between(const std::string& name, Shape shape, double low, double high) {
    const std::int64_t count = *element_count(shape);
    float* values = add(name, std::move(shape), DType::kF32);
    for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(low + (high - low) * random_.uniform());
  }

  void mamba_mixer(const std::string& prefix) {
    const std::int64_t inner = 2 * shape_.width;
    const std::int64_t rank = (shape_.width + 15) / 16;
    config_.set("intermediate_size", inner);
    linear(prefix + "in_proj.weight", 2 * inner, shape_.width);
    convolution(prefix, inner);
    linear(prefix + "x_proj.weight", rank + 2 * shape_.states, inner);
    linear(prefix + "dt_proj.weight", inner, rank);
    time_step_bias(prefix + "dt_proj.bias", inner);
    float* a_log = add(prefix + "A_log", {inner, shape_.states}, DType::kF32);
    for (std::int64_t i = 0; i < inner * shape_.states; ++i) {
      a_log[i] = std::log(static_cast<float>(1 + i % shape_.states));
    }
    constant(prefix + "D", inner, 1.0F);
    linear(prefix + "out_proj.weight", shape_.width, inner, std::sqrt(static_cast<double>(shape_.layers)));
  }

  void mamba2_mixer(const std::string& prefix) {
    const std::int64_t inner = 2 * shape_.width;
    const std::int64_t heads = inner / shape_.head_width;
    const std::int64_t channels = inner + 2 * shape_.groups * shape_.states;
    config_.set("num_heads", heads);
    config_.set("head_dim", shape_.head_width);
    config_.set("n_groups", shape_.groups);
    linear(prefix + "in_proj.weight", inner + channels + heads, shape_.width);
    convolution(prefix, channels);
    time_step_bias(prefix + "dt_bias", heads);
    float* a_log = add(prefix + "A_log", {heads}, DType::kF32);
    for (std::int64_t h = 0; h < heads; ++h) a_log[h] = static_cast<float>(std::log(1.0 + 15.0 * random_.uniform()));
    constant(prefix + "D", heads, 1.0F);
    constant(prefix + "norm.weight", inner, 1.0F);
    linear(prefix + "out_proj.weight", shape_.width, inner, std::sqrt(static_cast<double>(shape_.layers)));
  }

  void mamba3_config() {
    config_.set("d_model", shape_.width);
    config_.set("n_layer", shape_.layers);
    config_.set("tie_embeddings", true);
    config_.set("ssm_cfg.layer", std::string("Mamba3"));
    config_.set("ssm_cfg.headdim", shape_.head_width);
    config_.set("ssm_cfg.d_state", shape_.states);
    config_.set("ssm_cfg.ngroups", shape_.groups);
    if (shape_.rank > 0) {
      config_.set("ssm_cfg.is_mimo", true);
      config_.set("ssm_cfg.mimo_rank", shape_.rank);
    }
  }

  void mamba3_mixer(const std::string& prefix) {
    const std::int64_t inner = 2 * shape_.width, heads = inner / shape_.head_width;
    const std::int64_t rank = std::max<std::int64_t>(1, shape_.rank), states = shape_.states;
    linear(prefix + "in_proj.weight", 2 * inner + 2 * rank * shape_.groups * states + 3 * heads + states / 4,
           shape_.width);
    time_step_bias(prefix + "dt_bias", heads);
    for (const char* part : {"B", "C"}) {
      constant(prefix + part + "_norm.weight", states, 1.0F);
      float* bias = add(prefix + part + "_bias", {heads, rank, states}, DType::kF32);
      std::fill_n(bias, heads * rank * states, 1.0F);
    }
    constant(prefix + "D", heads, 1.0F);
    if (shape_.rank > 0) {
      for (const auto& [part, value] : {std::pair{"mimo_x", 1.0F / static_cast<float>(rank)}, std::pair{"mimo_z", 1.0F},
                                        std::pair{"mimo_o", 1.0F / static_cast<float>(rank)}}) {
        float* mix = add(prefix + part, {heads, rank, shape_.head_width}, DType::kF32);
        std::fill_n(mix, heads * rank * shape_.head_width, value);
      }
    }
    linear(prefix + "out_proj.weight", shape_.width, inner, std::sqrt(static_cast<double>(shape_.layers)));
  }

  void convolution(const std::string& prefix, std::int64_t channels) {
    constexpr std::int64_t kWidth = 4;
    float* weight = add(prefix + "conv1d.weight", {channels, 1, kWidth}, DType::kF32);
    for (std::int64_t i = 0; i < channels * kWidth; ++i) weight[i] = static_cast<float>(random_.uniform() - 0.5);
    constant(prefix + "conv1d.bias", channels, 0.0F);
  }

  // softplus^-1 of a time step drawn log-uniformly from 0.001 … 0.1, as the papers initialise it.
  void time_step_bias(const std::string& name, std::int64_t count) {
    float* values = add(name, {count}, DType::kF32);
    for (std::int64_t i = 0; i < count; ++i) {
      const double step = std::exp(std::log(0.001) + random_.uniform() * std::log(100.0));
      values[i] = static_cast<float>(std::log(std::expm1(step)));
    }
  }

  void linear(const std::string& name, std::int64_t rows, std::int64_t columns, double divisor = 1.0) {
    uniform(name, {rows, columns}, 1.0 / (divisor * std::sqrt(static_cast<double>(columns))));
  }

  void uniform(const std::string& name, Shape shape, double bound) {
    const std::uint64_t bytes = *bytes_for(dtype_, *element_count(shape));
    tensors_.push_back({name, dtype_, std::move(shape), bytes});
    bounds_.emplace(name, bound);
  }

  // Every row of a matrix has a stream of its own, so that a part of it can be drawn without the rest.
  void draw_rows(const formats::TensorInfo& tensor, std::int64_t first, std::int64_t count, std::byte* to) const {
    const double bound = bounds_.find(tensor.name)->second;
    std::uint64_t seed = seed_;
    for (const char c : tensor.name) seed = Random(seed ^ static_cast<unsigned char>(c)).next();
    const std::int64_t columns = tensor.shape.back();
    auto* values = reinterpret_cast<float*>(to);
    auto* halves = reinterpret_cast<std::uint16_t*>(to);
    for (std::int64_t row = first; row < first + count; ++row) {
      Random random(Random(seed + static_cast<std::uint64_t>(row)).next());
      for (std::int64_t i = 0; i < columns; ++i) {
        const auto value = static_cast<float>((2.0 * random.uniform() - 1.0) * bound);
        if (tensor.dtype == DType::kF32) {
          *values++ = value;
        } else {
          *halves++ = tensor.dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
        }
      }
    }
  }

  void constant(const std::string& name, std::int64_t count, float value) {
    std::fill_n(add(name, {count}, DType::kF32), count, value);
  }

  float* add(const std::string& name, Shape shape, DType dtype) {
    const std::uint64_t bytes = *bytes_for(dtype, *element_count(shape));
    tensors_.push_back({name, dtype, std::move(shape), bytes});
    AlignedBuffer& buffer = data_.emplace(name, AlignedBuffer(bytes)).first->second;
    return reinterpret_cast<float*>(buffer.data());
  }

  SyntheticShape shape_;
  DType dtype_;
  std::uint64_t seed_;
  Random random_;
  formats::Config config_;
  std::vector<formats::TensorInfo> tensors_;
  std::map<std::string, double, std::less<>> bounds_;  // of the weight matrices, which are drawn when asked for
  mutable std::mutex mutex_;                           // of data_
  mutable std::map<std::string, AlignedBuffer, std::less<>> data_;
};

}  // namespace

std::span<const SyntheticShape> synthetic_shapes() { return kShapes; }

Result<SyntheticShape> synthetic_shape(std::string_view name) {
  const auto* found = std::ranges::find(kShapes, name, &SyntheticShape::name);
  if (found != kShapes.end()) return *found;
  std::vector<std::string_view> names;
  for (const SyntheticShape& shape : kShapes) names.push_back(shape.name);
  return fail(ErrorCode::kInvalidArgument, "[models] no synthetic model {}: there are {}", name,
              fmt::join(names, ", "));
}

std::unique_ptr<formats::WeightSource> make_synthetic(const SyntheticShape& shape, DType dtype, std::uint64_t seed) {
  return std::make_unique<SyntheticSource>(shape, dtype, seed);
}

}  // namespace krait::models
