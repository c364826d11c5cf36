// LFM2 (Liquid AI 2025): gated short convolutions, a few layers of attention with norms on queries and keys.
//   [B; C; x] = W_in u,  out = W_out (C * conv(B * x))      no activation anywhere
// Checkpoints: transformers' (model_type lfm2), GGUF ("lfm2").
#include "krait/models/lfm2.h"

#include "krait/kernels/activation.h"
#include "krait/kernels/conv1d_causal.h"
#include "krait/models/architectures.h"
#include "krait/models/mixers/feed_forward.h"

namespace krait::models {
namespace {

class ShortConvolution final : public Mixer {
 public:
  // Adds the window [K-1, D] to the layout.
  ShortConvolution(const WeightScope& scope, std::int64_t width, std::int64_t conv_width, StateLayout& layout,
                   const std::string& state_name)
      : width_(width) {
    const MatrixOptions how = {.rows = {}, .gguf_scale = false};
    in_proj_ = scope.matrix("in_proj.weight", "shortconv.in_proj.weight", 3 * width, width, how);
    in_bias_ = scope.vector_if_present("in_proj.bias", "shortconv.in_proj.bias", 3 * width);
    conv_.width = conv_width;
    conv_.weight = scope.taps("conv.weight", "shortconv.conv.weight", width, conv_width);
    conv_.bias = scope.vector_if_present("conv.bias", "shortconv.conv.bias", width);
    conv_.silu = false;
    out_proj_ = scope.matrix("out_proj.weight", "shortconv.out_proj.weight", width, width, how);
    out_bias_ = scope.vector_if_present("out_proj.bias", "shortconv.out_proj.bias", width);
    if (scope.loader().failed()) return;
    offset_ = layout.add(state_name + ".conv", {conv_width - 1, width}, DType::kF32, StateKind::kConvWindow);
    state_bytes_ = layout.bytes() - offset_;
  }

  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override {
    const Workspace::Mark scratch(step.workspace());
    ThreadPool& pool = step.pool();
    const kernels::RowsOut bcx = step.rows(3 * width_);
    kernels::linear(pool, u, in_proj_, in_bias_, bcx);
    step.lap("in_proj", in_proj_);
    const kernels::RowsOut x = bcx.slice_columns(2 * width_, width_);
    kernels::multiply(pool, bcx.slice_columns(0, width_), x);
    const kernels::RowsOut y = step.rows(width_);
    kernels::conv1d_causal(pool, conv_, x, step.sequences(offset_), y);
    kernels::multiply(pool, bcx.slice_columns(width_, width_), y);
    step.lap_scan("conv1d", state_bytes_, 4 * width_, 2 * conv_.width * width_);
    kernels::linear(pool, y, out_proj_, out_bias_, out);
    step.lap("out_proj", out_proj_);
  }

 private:
  std::int64_t width_;
  kernels::WeightMatrix in_proj_;   // [3D, D], B above C above x
  kernels::WeightMatrix out_proj_;  // [D, D]
  const float* in_bias_ = nullptr;
  const float* out_bias_ = nullptr;
  kernels::Conv1dCausal conv_;
  std::uint64_t offset_ = 0, state_bytes_ = 0;
};

// The width of an MLP from what the configuration calls intermediate_size, as the authors' code adjusts it.
std::int64_t hidden_width(WeightLoader& loader) {
  std::int64_t hidden =
      loader.config().has("intermediate_size") ? loader.size("intermediate_size") : loader.size("block_ff_dim");
  if (!loader.boolean_or("block_auto_adjust_ff_dim", true)) return hidden;
  hidden = 2 * hidden / 3;
  const double factor = loader.number_or("block_ffn_dim_multiplier", 1.0);
  hidden = static_cast<std::int64_t>(factor * static_cast<double>(hidden));
  const std::int64_t multiple = loader.size_or("block_multiple_of", 256);
  return (hidden + multiple - 1) / multiple * multiple;
}

// Which layers attend: layer_types, or full_attn_idxs in older files.
std::vector<bool> read_layers(WeightLoader& loader, std::int64_t layers) {
  if (!loader.config().has("layer_types")) return read_layer_set(loader, "full_attn_idxs", layers);
  static constexpr std::array<std::string_view, 2> kKinds = {"conv", "full_attention"};
  std::vector<bool> attends;
  for (const std::string& kind : read_layer_kinds(loader, "layer_types", layers, kKinds)) {
    attends.push_back(kind == "full_attention");
  }
  return attends;
}

}  // namespace

Lfm2Config read_lfm2(WeightLoader& loader) {
  Lfm2Config config;
  config.residual = read_residual(loader, "lfm2", "norm_eps", 1e-5);
  if (!loader.is_gguf() && !config.residual.tied) config.residual.tied = loader.boolean_if_present("tie_embedding");
  AttentionDimensions& attention = config.attention;
  attention = read_attention(loader, config.residual.width);
  attention.rotary = read_rotary(loader, attention.head_width, 1.0, 1e6);
  attention.norms = true;
  attention.norm_epsilon = config.residual.epsilon;
  attention.output_bias = false;
  if (loader.is_gguf()) {
    config.conv_width = loader.size(gguf_key(loader, "shortconv.l_cache"));
    config.hidden = loader.size(gguf_key(loader, "feed_forward_length"));
    attention.window = loader.offset_or(gguf_key(loader, "attention.sliding_window"), 0);
    attention.scale = 0.0F;  // llama.cpp does not read it here
  } else {
    config.conv_width = loader.size_or("conv_L_cache", 3);
    config.hidden = hidden_width(loader);
    config.attends = read_layers(loader, config.residual.layers);
  }
  return config;
}

std::unique_ptr<Model> load_lfm2(WeightLoader& loader) {
  const Lfm2Config config = read_lfm2(loader);
  const std::int64_t width = config.residual.width;
  if (loader.failed()) return nullptr;
  TokenHead::Names names = TokenHead::names(loader, "model.embed_tokens.weight", "model.embedding_norm.weight");
  if (loader.is_gguf()) names.norm = "token_embd_norm.weight";  // the last norm all the same
  auto model = std::make_unique<ResidualModel>(loader, config.residual, names);
  for (std::int64_t i = 0; i < config.residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("model.layers.{}.", i), fmt::format("blk.{}.", i));
    const std::string name = fmt::format("layers.{}", i);
    std::unique_ptr<Mixer> mixer;
    if (loader.is_gguf() ? scope.has("", "attn_q.weight") : config.attends[static_cast<std::size_t>(i)]) {
      mixer = std::make_unique<AttentionMixer>(
          scope.inside("self_attn."), config.attention, model->layout(), name,
          AttentionNames{.output = "out_proj", .query_norm = "q_layernorm", .key_norm = "k_layernorm"});
    } else {
      mixer =
          std::make_unique<ShortConvolution>(scope.inside("conv."), width, config.conv_width, model->layout(), name);
    }
    model->add(scope, "operator_norm.weight", "attn_norm.weight", std::move(mixer));
    model->add(
        scope, "ffn_norm.weight", "ffn_norm.weight",
        std::make_unique<FeedForward>(scope.inside("feed_forward."), width, config.hidden, FeedForwardForm::kGateUp,
                                      FeedForwardActivation::kSilu,
                                      FeedForwardNames{.gate = "w1", .up = "w3", .down = "w2", .gguf_scales = false}));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
