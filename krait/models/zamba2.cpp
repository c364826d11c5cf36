// Zamba2 (Zyphra 2024): a stack of Mamba-2 layers, and one or two transformer blocks whose weights are used again and
// again, each time with adapters of low rank and a projection of its own.
//   every layer:   x <- x + mamba(norm(x + t))        t = 0, or where the layer is a hybrid one
//   t = W_linear mlp(norm(attention(norm([x; e]))))    e: the embedding of the token; no residual inside
// The scale of the scores is that of half the heads' width. Use i takes block i mod num_mem_blocks.
// Checkpoints: transformers' (model_type zamba2); no other program has a format for it.
#include "krait/kernels/activation.h"
#include "krait/kernels/norm.h"
#include "krait/models/architectures.h"
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/feed_forward.h"
#include "krait/models/mixers/low_rank.h"

namespace krait::models {
namespace {

struct Zamba2Config {
  ResidualConfig residual;
  Mamba2Dimensions mamba;
  AttentionDimensions attention;
  std::int64_t hidden = 0;  // of the MLP
  std::int64_t blocks = 1;
  std::int64_t adapter_rank = 128;
  bool attention_adapters = false;
  std::vector<bool> hybrid;
};

Zamba2Config read_config(WeightLoader& loader) {
  Zamba2Config config;
  config.residual = read_residual(loader, "zamba2", "rms_norm_eps", 1e-5);
  if (!config.residual.tied) config.residual.tied = true;
  const std::int64_t width = config.residual.width;
  Mamba2Dimensions& mamba = config.mamba;
  mamba.width = width;
  mamba.epsilon = 1e-5F;
  mamba.heads = loader.size_or("n_mamba_heads", 8);
  const std::int64_t inner = loader.size_or("mamba_expand", 2) * width;
  mamba.head_width = loader.size_or("mamba_headdim", std::max<std::int64_t>(1, inner / mamba.heads));
  mamba.states = loader.size_or("mamba_d_state", 64);
  mamba.groups = loader.size_or("mamba_ngroups", 1);
  mamba.conv_width = loader.size_or("mamba_d_conv", 4);
  if (mamba.heads * mamba.head_width != inner) {
    loader.set_error({ErrorCode::kCorrupt,
                      fmt::format("[models] n_mamba_heads {} times mamba_headdim {} is not the inner width {} ({})",
                                  mamba.heads, mamba.head_width, inner, loader.config().origin())});
  }
  read_dt_limits(loader, "time_step_limit", mamba);
  AttentionDimensions& attention = config.attention;
  attention.width = width;
  attention.input_width = 2 * width;
  attention.heads = loader.size("num_attention_heads");
  attention.key_heads = loader.size_or("num_key_value_heads", attention.heads);
  attention.head_width = loader.size_or("attention_head_dim", 2 * width / attention.heads);
  attention.scale = 1.0F / std::sqrt(static_cast<float>(attention.head_width) / 2.0F);
  attention.biases = false;
  if (loader.boolean_or("use_mem_rope", false)) {
    attention.rotary = read_rotary(loader, attention.head_width, 1.0, 10000.0);
  }
  config.hidden = loader.size_or("intermediate_size", 4 * width);
  config.blocks = loader.size_or("num_mem_blocks", 1);
  config.adapter_rank = loader.size_or("adapter_rank", 128);
  config.attention_adapters = loader.boolean_or("use_shared_attention_adapter", false);
  const std::string activation = loader.text_or("hidden_act", "gelu");
  if (activation != "gelu" || loader.boolean_or("add_bias_linear", false)) {
    loader.set_error({ErrorCode::kUnsupported,
                      fmt::format("[models] hidden_act is {} and add_bias_linear {}: only gelu without biases is known "
                                  "({})",
                                  activation, loader.boolean_or("add_bias_linear", false), loader.config().origin())});
  }
  if (loader.config().has("layers_block_type")) {
    static constexpr std::array<std::string_view, 2> kKinds = {"mamba", "hybrid"};
    for (const std::string& kind : read_layer_kinds(loader, "layers_block_type", config.residual.layers, kKinds)) {
      config.hybrid.push_back(kind == "hybrid");
    }
  } else {
    config.hybrid = read_layer_set(loader, "hybrid_layer_ids", config.residual.layers);
  }
  return config;
}

class Zamba2 final : public Model {
 public:
  Zamba2(WeightLoader& loader, const Zamba2Config& config)
      : config_(config),
        ends_(loader, TokenHead::names(loader, "model.embed_tokens.weight", "model.final_layernorm.weight"),
              {.width = config.residual.width, .epsilon = config.residual.epsilon, .tied = config.residual.tied}) {
    const std::int64_t width = config.residual.width;
    std::int64_t use = 0;
    for (std::int64_t i = 0; i < config.residual.layers && !loader.failed(); ++i) {
      const WeightScope scope(loader, fmt::format("model.layers.{}.", i), "");
      const std::string name = fmt::format("layers.{}", i);
      const bool hybrid = config.hybrid[static_cast<std::size_t>(i)];
      const WeightScope mamba = hybrid ? scope.inside("mamba_decoder.") : scope;
      std::optional<Use> shared;
      if (hybrid) shared = load_use(scope, use++, name);
      layers_.push_back({mamba.vector("input_layernorm.weight", "", width),
                         Mamba2Mixer(mamba.inside("mamba."), config.mamba, state_layout_, name), std::move(shared)});
    }
    info_.architecture = "zamba2";
    info_.layers = config.residual.layers;
    info_.width = width;
    info_.vocabulary = ends_.vocabulary();
    head_.weight = ends_.head();
    weights_ = loader.finish(info_);
  }

  void forward(Step& step, kernels::RowsOut hidden) const override {
    ThreadPool& pool = step.pool();
    const std::int64_t width = config_.residual.width;
    const float epsilon = config_.residual.epsilon;
    const kernels::RowsOut residual = step.rows(width);  // [M, D]
    const kernels::RowsOut embedded = step.rows(width);  // of the tokens, as they were
    const kernels::RowsOut delta = step.rows(width);
    const kernels::RowsOut normed = step.rows(width);
    ends_.embed(step, residual);
    for (std::int64_t row = 0; row < residual.rows; ++row) std::copy_n(residual.row(row), width, embedded.row(row));
    step.lap_rows("embedding", 2 * width);
    bool first = true;
    for (const Layer& layer : layers_) {
      if (!first) kernels::add(pool, delta, residual);
      first = false;
      if (layer.use) {
        shared_block(step, *layer.use, residual, embedded, normed);
        kernels::add(pool, residual, normed);
        kernels::rms_norm(pool, normed, layer.norm, epsilon, normed);
      } else {
        kernels::rms_norm(pool, residual, layer.norm, epsilon, normed);
      }
      step.lap_rows("norm", 2 * width);
      layer.mamba.forward(step, normed, delta);
    }
    ends_.hidden(step, residual, delta, hidden);
  }

 private:
  // A transformer block that layers share.
  struct Block {
    const float* norm;         // [2D]
    AttentionMixer attention;  // of its first use
    const float* mlp_norm;     // [D]
    FeedForward mlp;
  };
  // One of its uses: a cache and adapters of its own.
  struct Use {
    std::size_t block;
    AttentionMixer attention;
    LowRank mlp_adapter;
    kernels::WeightMatrix linear;  // [D, D]
  };
  struct Layer {
    const float* norm;  // [D]
    Mamba2Mixer mamba;
    std::optional<Use> use;
  };

  Use load_use(const WeightScope& scope, std::int64_t use, const std::string& name) {
    const std::int64_t width = config_.residual.width;
    const auto block = static_cast<std::size_t>(use % config_.blocks);
    if (block == blocks_.size()) {
      // The weights stand at the first use; some writers repeat them at each.
      const WeightScope shared = scope.inside("shared_transformer.");
      block_scopes_.push_back(shared);
      const FeedForwardNames names = {.gate = "", .up = "gate_up_proj", .down = "down_proj"};
      blocks_.push_back({shared.vector("input_layernorm.weight", "", 2 * width),
                         AttentionMixer(shared.inside("self_attn."), config_.attention, state_layout_, name),
                         shared.vector("pre_ff_layernorm.weight", "", width),
                         FeedForward(shared.inside("feed_forward."), width, config_.hidden,
                                     FeedForwardForm::kFusedGateFirst, FeedForwardActivation::kGelu, names)});
    }
    const WeightScope& shared = block_scopes_[block];
    const bool first = use < config_.blocks;
    AttentionMixer attention = first ? blocks_[block].attention : blocks_[block].attention.again(state_layout_, name);
    const std::int64_t queries = config_.attention.heads * config_.attention.head_width;
    const std::int64_t keys = config_.attention.key_heads * config_.attention.head_width;
    if (config_.attention_adapters) {
      const auto adapter = [&](const char* part, std::int64_t outputs) {
        return LowRank::load(shared.inside(fmt::format("self_attn.linear_{}_adapter_list.{}.", part, use)), 2 * width,
                             config_.adapter_rank, outputs);
      };
      attention.adapt({adapter("q", queries), adapter("k", keys), adapter("v", keys)});
    }
    return {block, std::move(attention),
            LowRank::load(shared.inside(fmt::format("feed_forward.gate_up_proj_adapter_list.{}.", use)), width,
                          config_.adapter_rank, 2 * config_.hidden),
            scope.matrix("linear.weight", "", width, width)};
  }

  // out [M, D]
  void shared_block(Step& step, const Use& use, kernels::RowsIn x, kernels::RowsIn embedded,
                    kernels::RowsOut out) const {
    const Workspace::Mark scratch(step.workspace());
    ThreadPool& pool = step.pool();
    const Block& block = blocks_[use.block];
    const std::int64_t width = config_.residual.width;
    const kernels::RowsOut both = step.rows(2 * width);
    for (std::int64_t row = 0; row < x.rows; ++row) {
      std::copy_n(x.row(row), width, both.row(row));
      std::copy_n(embedded.row(row), width, both.row(row) + width);
    }
    kernels::rms_norm(pool, both, block.norm, config_.residual.epsilon, both);
    step.lap_rows("norm", 2 * width);
    const kernels::RowsOut attended = step.rows(width);
    use.attention.forward(step, both, attended);
    kernels::rms_norm(pool, attended, block.mlp_norm, config_.residual.epsilon, attended);
    step.lap_rows("norm", width);
    const kernels::RowsOut inside = step.rows(block.mlp.scratch_columns());
    std::vector<kernels::GroupedProduct> products;
    block.mlp.append_inputs(products, 0, inside);
    kernels::linear_group(pool, attended, products);
    use.mlp_adapter.add(step, attended, inside);
    block.mlp.activate(pool, inside);
    kernels::linear(pool, inside.slice_columns(0, block.mlp.hidden()), block.mlp.down(), nullptr, attended);
    step.lap("mlp", {&block.mlp.up(), &block.mlp.down()}, x.rows);
    kernels::linear(pool, attended, use.linear, nullptr, out);
    step.lap("linear", use.linear);
  }

  Zamba2Config config_;
  TokenHead ends_;
  std::vector<WeightScope> block_scopes_;  // while loading
  std::vector<Block> blocks_;
  std::vector<Layer> layers_;
  LoadedWeights weights_;
};

}  // namespace

std::unique_ptr<Model> load_zamba2(WeightLoader& loader) {
  const Zamba2Config config = read_config(loader);
  if (loader.failed()) return nullptr;
  return std::make_unique<Zamba2>(loader, config);
}

}  // namespace krait::models
