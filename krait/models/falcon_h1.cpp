// Falcon-H1 (TII 2025): attention and Mamba-2 side by side in every layer, then an MLP; multipliers everywhere.
//   residual += ssm_out Mamba2(ssm_in h) + attention_out Attention(attention_in h),  h = norm(residual)
// Checkpoints: transformers' (model_type falcon_h1), GGUF ("falcon-h1", whose weights have the multipliers inside).
#include "krait/models/falcon_h1.h"

#include "krait/kernels/activation.h"
#include "krait/models/architectures.h"
#include "krait/models/mixers/feed_forward.h"

namespace krait::models {
namespace {

// Both mixers of a layer, on the same input.
class ParallelMixer final : public Mixer {
 public:
  ParallelMixer(std::unique_ptr<Mixer> first, std::unique_ptr<Mixer> second)
      : first_(std::move(first)), second_(std::move(second)) {}

  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override {
    const Workspace::Mark scratch(step.workspace());
    const kernels::RowsOut other = step.rows(out.columns);
    first_->forward(step, u, out);
    second_->forward(step, u, other);
    kernels::add(step.pool(), other, out);
  }

 private:
  std::unique_ptr<Mixer> first_, second_;
};

float multiplier(WeightLoader& loader, std::string_view key) { return static_cast<float>(loader.number_or(key, 1.0)); }

// A list of exactly `count` multipliers; ones where it is missing.
std::vector<float> multipliers(WeightLoader& loader, std::string_view key, std::size_t count) {
  std::vector<float> result(count, 1.0F);
  if (!loader.config().has(key)) return result;
  const auto given = loader.config().numbers(key);
  if (!given || given->size() != count) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] {} is not a list of {} numbers ({})", key, count,
                                                       loader.config().origin())});
    return result;
  }
  std::ranges::transform(*given, result.begin(), [](double value) { return static_cast<float>(value); });
  return result;
}

void read_transformers(WeightLoader& loader, FalconH1Config& config) {
  config.residual.embedding_scale = multiplier(loader, "embedding_multiplier");
  config.residual.logit_scale = multiplier(loader, "lm_head_multiplier");
  config.attention.biases = loader.boolean_or("attention_bias", false);
  config.attention.input_factor = multiplier(loader, "attention_in_multiplier");
  config.attention.key_factor = multiplier(loader, "key_multiplier");
  config.attention.output_factor = multiplier(loader, "attention_out_multiplier");
  Mamba2Dimensions& mamba = config.mamba;
  mamba.input_factor = multiplier(loader, "ssm_in_multiplier");
  mamba.output_factor = multiplier(loader, "ssm_out_multiplier");
  std::ranges::copy(multipliers(loader, "ssm_multipliers", 5), mamba.part_factors.begin());
  mamba.gated_norm = loader.boolean_or("mamba_rms_norm", false);
  if (loader.boolean_or("mamba_norm_before_gate", true)) mamba.gate_order = kernels::GateOrder::kNormThenGate;
  config.hidden = loader.size("intermediate_size");
  std::ranges::copy(multipliers(loader, "mlp_multipliers", 2), config.mlp.begin());
}

}  // namespace

FalconH1Config read_falcon_h1(WeightLoader& loader) {
  FalconH1Config config;
  config.residual = read_residual(loader, "falcon_h1", "rms_norm_eps", 1e-5);
  const std::int64_t width = config.residual.width;
  config.attention = read_attention(loader, width);
  config.attention.rotary = read_rotary(loader, config.attention.head_width, 1.0, 1e11);
  config.attention.output_bias = !loader.is_gguf();
  config.mamba = read_mamba2(loader, width, config.residual.epsilon);
  if (loader.is_gguf()) {
    config.hidden = loader.size(gguf_key(loader, "feed_forward_length"));
    config.mamba.gated_norm = loader.has("blk.0.ssm_norm.weight");
  } else {
    read_transformers(loader, config);
  }
  return config;
}

std::unique_ptr<Model> load_falcon_h1(WeightLoader& loader) {
  const FalconH1Config config = read_falcon_h1(loader);
  const std::int64_t width = config.residual.width;
  if (loader.failed()) return nullptr;
  auto model = std::make_unique<ResidualModel>(
      loader, config.residual, TokenHead::names(loader, "model.embed_tokens.weight", "model.final_layernorm.weight"));
  for (std::int64_t i = 0; i < config.residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("model.layers.{}.", i), fmt::format("blk.{}.", i));
    const std::string name = fmt::format("layers.{}", i);
    auto mamba = std::make_unique<Mamba2Mixer>(scope.inside("mamba."), config.mamba, model->layout(), name);
    auto attention =
        std::make_unique<AttentionMixer>(scope.inside("self_attn."), config.attention, model->layout(), name);
    model->add(scope, "input_layernorm.weight", "attn_norm.weight",
               std::make_unique<ParallelMixer>(std::move(mamba), std::move(attention)));
    auto mlp =
        std::make_unique<FeedForward>(scope.inside("feed_forward."), width, config.hidden, FeedForwardForm::kGateUp,
                                      FeedForwardActivation::kSilu, FeedForwardNames{.gguf_scales = false});
    if (config.mlp[0] != 1.0F || config.mlp[1] != 1.0F) mlp->scale(config.mlp[0], config.mlp[1]);
    // llama.cpp writes this norm without ".weight".
    const bool bare = scope.has("", "ffn_norm");
    model->add(scope, "pre_ff_layernorm.weight", bare ? "ffn_norm" : "ffn_norm.weight", std::move(mlp));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
