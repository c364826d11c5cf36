// SambaY, released as Phi-4-mini-flash (Ren et al. 2025, "Decoder-Hybrid-Decoder"): a self-decoder of Mamba and
// differential attention with a sliding window, and a cross-decoder that keeps no state of its own.
//   layers 0 … N/2 + 1   even: Mamba; odd: differential attention, the last of them over all tokens
//   layers N/2 + 2 …     even: gated memory unit, out = W_out (silu(W_in h) * m), m the scan's output of layer N/2
//                        before its gate; odd: differential attention to the keys and values of layer N/2 + 1
//   every layer: x <- x + mixer(LN(x)), x <- x + W_2 (y * silu(gate)), [gate; y] = W_1 LN(x)
// Since the cross-decoder keeps nothing, only rows whose logits are wanted pass through it: prefill costs half (YOCO).
// Checkpoints: Microsoft's (model_type phi4flash).
#include "krait/kernels/activation.h"
#include "krait/kernels/layer_norm.h"
#include "krait/models/architectures.h"
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/differential_attention.h"
#include "krait/models/mixers/feed_forward.h"
#include "krait/models/mixers/mamba1.h"

namespace krait::models {
namespace {

struct SambaYConfig {
  ResidualConfig residual;
  Mamba1Dimensions mamba;
  DifferentialAttentionDimensions attention;  // window: of the self-decoder's
  std::int64_t hidden = 0;
};

SambaYConfig read_config(WeightLoader& loader) {
  SambaYConfig config;
  config.residual = read_residual(loader, "phi4flash", "layer_norm_eps", 1e-5);
  if (!config.residual.tied) config.residual.tied = true;
  const std::int64_t width = config.residual.width;
  Mamba1Dimensions& mamba = config.mamba;
  mamba.width = width;
  mamba.inner = loader.size_or("mamba_expand", 2) * width;
  mamba.states = loader.size_or("mamba_d_state", 16);
  mamba.conv_width = loader.size_or("mamba_d_conv", 4);
  const std::int64_t automatic = (width + 15) / 16;
  mamba.dt_rank =
      loader.config().text("mamba_dt_rank").has_value() ? automatic : loader.size_or("mamba_dt_rank", automatic);
  DifferentialAttentionDimensions& attention = config.attention;
  attention.width = width;
  attention.heads = loader.size("num_attention_heads");
  attention.key_heads = loader.size_or("num_key_value_heads", attention.heads);
  attention.head_width = std::max<std::int64_t>(1, width / attention.heads);
  // A number, or one for each layer with null where there is no window.
  if (loader.config().integer("sliding_window")) {
    attention.window = loader.size("sliding_window");
  } else {
    for (std::int64_t i = 0; i < config.residual.layers && attention.window == 0; ++i) {
      const auto window = loader.config().integer(fmt::format("sliding_window.{}", i));
      if (window) attention.window = *window;
    }
    const auto list = loader.config().integers("sliding_window");
    if (attention.window == 0 && list && !list->empty()) attention.window = list->front();
  }
  config.hidden = loader.size("intermediate_size");
  const auto refuse = [&](std::string message) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] {} ({})", message, loader.config().origin())});
  };
  if (loader.failed()) return config;
  if (attention.window < 1) refuse("sliding_window names no window");
  if (config.residual.layers % 4 != 0) {
    refuse(fmt::format("num_hidden_layers is {}: both decoders take pairs of layers, so a multiple of 4",
                       config.residual.layers));
  }
  if (const std::int64_t period = loader.size_or("mb_per_layer", 2); period != 2) {
    refuse(fmt::format("mb_per_layer is {}, not 2", period));
  }
  return config;
}

class SambaY final : public Model {
 public:
  SambaY(WeightLoader& loader, const SambaYConfig& config) : config_(config) {
    const std::int64_t width = config.residual.width, layers = config.residual.layers;
    const std::int64_t vocabulary = loader.vocabulary("model.embed_tokens.weight");
    if (loader.failed()) return;
    embedding_ = loader.embedding("model.embed_tokens.weight", vocabulary, width);
    layers_.reserve(static_cast<std::size_t>(layers));
    for (std::int64_t i = 0; i < layers && !loader.failed(); ++i) {
      const WeightScope scope(loader, fmt::format("model.layers.{}.", i), "");
      layers_.push_back(load_layer(scope, i));
    }
    output_norm_ = load_norm({loader, "model.final_layernorm", ""});
    head_.weight = *config.residual.tied ? embedding_ : loader.embedding("lm_head.weight", vocabulary, width);
    loader.count_head(head_.weight);
    info_.architecture = "phi4flash";
    info_.layers = layers;
    info_.width = width;
    info_.vocabulary = vocabulary;
    weights_ = loader.finish(info_);
  }

  void forward(Step& step, kernels::RowsOut output) const override {
    ThreadPool& pool = step.pool();
    const std::int64_t width = config_.residual.width;
    kernels::RowsOut residual = step.rows(width), hidden = step.rows(width), delta = step.rows(width);
    kernels::RowsOut memory = step.rows(config_.mamba.inner);
    kernels::embed(pool, embedding_, step.tokens().data(), residual);
    step.lap_rows("embedding", width);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      if (i == self_layers()) {
        residual = wanted_rows(step, residual);
        memory = wanted_rows(step, memory);
        hidden = hidden.slice_rows(0, residual.rows);
        delta = delta.slice_rows(0, residual.rows);
        if (residual.rows == 0) return;
      }
      kernels::layer_norm(pool, layer.norm, residual, hidden);
      step.lap("norm", static_cast<std::uint64_t>(2 * residual.rows * width) * sizeof(float));
      mix(step, layer, i, hidden, memory, delta);
      kernels::add(pool, delta, residual);
      kernels::layer_norm(pool, layer.mlp_norm, residual, hidden);
      layer.mlp.forward(step, hidden, delta);
      kernels::add(pool, delta, residual);
    }
    kernels::layer_norm(pool, output_norm_, residual, output);
    step.lap_rows("norm", 0);
  }

 private:
  struct MemoryUnit {
    kernels::WeightMatrix in, out;  // [E, D], [D, E]
  };
  struct Layer {
    kernels::LayerNorm norm;
    std::optional<Mamba1Mixer> mamba;
    std::optional<DifferentialAttention> attention;
    std::optional<MemoryUnit> memory_unit;
    kernels::LayerNorm mlp_norm;
    FeedForward mlp;
  };

  // Layers of the self-decoder.
  std::size_t self_layers() const { return static_cast<std::size_t>(config_.residual.layers / 2 + 2); }

  kernels::LayerNorm load_norm(const WeightScope& scope) const {
    return {.weight = scope.vector(".weight", "", config_.residual.width),
            .bias = scope.vector(".bias", "", config_.residual.width),
            .epsilon = config_.residual.epsilon};
  }

  Layer load_layer(const WeightScope& scope, std::int64_t i) {
    const std::string name = fmt::format("layers.{}", i);
    const WeightScope inside = scope.inside("attn.");
    const auto self = static_cast<std::int64_t>(self_layers());
    DifferentialAttentionDimensions attention = config_.attention;
    attention.layer = i;
    const FeedForwardNames names = {.gate = "", .up = "fc1", .down = "fc2"};
    Layer layer{.norm = load_norm(scope.inside("input_layernorm")),
                .mamba = std::nullopt,
                .attention = std::nullopt,
                .memory_unit = std::nullopt,
                .mlp_norm = load_norm(scope.inside("post_attention_layernorm")),
                .mlp = FeedForward(scope.inside("mlp."), config_.residual.width, config_.hidden,
                                   FeedForwardForm::kFusedGateFirst, FeedForwardActivation::kSilu, names)};
    if (i < self && i % 2 == 0) {
      layer.mamba.emplace(inside, config_.mamba, state_layout_, name);
    } else if (i < self) {
      if (i + 1 == self) attention.window = 0;
      layer.attention.emplace(inside, attention, state_layout_, name);
    } else if (i % 2 == 0) {
      layer.memory_unit = {inside.matrix("in_proj.weight", "", config_.mamba.inner, config_.residual.width),
                           inside.matrix("out_proj.weight", "", config_.residual.width, config_.mamba.inner)};
    } else {
      attention.window = 0;
      layer.attention.emplace(inside, attention, *layers_[self_layers() - 1].attention);
    }
    return layer;
  }

  void mix(Step& step, const Layer& layer, std::size_t i, kernels::RowsIn u, kernels::RowsOut memory,
           kernels::RowsOut out) const {
    if (layer.mamba) {
      const bool keeps = i + 2 == self_layers();
      layer.mamba->forward_keeping(step, u, out, keeps ? memory : kernels::RowsOut());
    } else if (layer.attention && i < self_layers()) {
      layer.attention->forward(step, u, out);
    } else if (layer.attention) {
      layer.attention->forward_wanted(step, u, out);
    } else {
      const Workspace::Mark scratch(step.workspace());
      const kernels::RowsOut gate = step.workspace().rows(u.rows, config_.mamba.inner);
      kernels::linear(step.pool(), u, layer.memory_unit->in, nullptr, gate);
      kernels::silu_gate(step.pool(), memory, gate, gate);
      kernels::linear(step.pool(), gate, layer.memory_unit->out, nullptr, out);
      step.lap("memory unit", {&layer.memory_unit->in, &layer.memory_unit->out}, u.rows);
    }
  }

  SambaYConfig config_;
  kernels::WeightMatrix embedding_;  // [V, D]
  std::vector<Layer> layers_;
  kernels::LayerNorm output_norm_;
  LoadedWeights weights_;
};

}  // namespace

std::unique_ptr<Model> load_phi4flash(WeightLoader& loader) {
  const SambaYConfig config = read_config(loader);
  if (loader.failed()) return nullptr;
  return std::make_unique<SambaY>(loader, config);
}

}  // namespace krait::models
