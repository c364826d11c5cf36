// RWKV-7 (Peng et al. 2025): per layer, x += time_mix(norm1(x)), then x += channel_mix(norm2(x)), with layer norms;
// another norm follows the embedding. The residual is f32 throughout.
// Checkpoints: the authors' .pth ("blocks.0.att.r_k", no configuration: all sizes are in the shapes), their small
// digit-reversal models ("rwkv1.r_k"), flash-linear-attention's and transformers' ("model.layers.0.attn.r_k"), GGUF.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/activation.h"
#include "krait/kernels/layer_norm.h"
#include "krait/models/architectures.h"
#include "krait/models/mixers/rwkv7_channel_mix.h"
#include "krait/models/mixers/rwkv7_time_mix.h"

namespace krait::models {
namespace {

// What the three kinds of checkpoints call their tensors.
struct BlockNames {
  std::string time_mix, channel_mix;  // prefixes
  std::string norm1, norm2;           // without .weight and .bias
  std::string rosa;                   // prefix of a branch beside the time mixing, or empty
};

struct Names {
  std::string embedding, embedding_norm, output_norm, head, head_bias;
  BlockNames (*block)(std::int64_t);
};

const Names kOriginal = {"emb.weight", "blocks.0.ln0", "ln_out", "head.weight", "head.bias", [](std::int64_t i) {
                           const std::string at = fmt::format("blocks.{}.", i);
                           return BlockNames{at + "att.", at + "ffn.", at + "ln1", at + "ln2", ""};
                         }};
const Names kReversal = {"e.weight", "", "lno", "o.weight", "o.bias", [](std::int64_t i) {
                           return BlockNames{fmt::format("rwkv{}.", i + 1), fmt::format("ffn{}.", i + 1),
                                             fmt::format("ln{}a", i + 1), fmt::format("ln{}b", i + 1),
                                             fmt::format("rosa{}.", i + 1)};
                         }};
const Names kGguf = {"token_embd.weight", "token_embd_norm", "output_norm", "output.weight", "", [](std::int64_t i) {
                       const std::string at = fmt::format("blk.{}.", i);
                       return BlockNames{at, at, at + "attn_norm", at + "attn_norm_2", ""};
                     }};

// The names that flash-linear-attention and transformers gave the same tensors: the authors' names stand for them.
void alias_transformers(WeightLoader& loader) {
  const auto both = [&](const std::string& name, const std::string& actual) {
    loader.alias(name + ".weight", actual + ".weight");
    loader.alias(name + ".bias", actual + ".bias");
  };
  loader.alias("emb.weight", "model.embeddings.weight");
  loader.alias("head.weight", "lm_head.weight");
  both("blocks.0.ln0", "model.layers.0.pre_norm");
  both("ln_out", "model.norm");
  for (std::int64_t i = 0; loader.has(fmt::format("model.layers.{}.attn.r_k", i)); ++i) {
    const std::string to = fmt::format("model.layers.{}.", i), from = fmt::format("blocks.{}.", i);
    both(from + "ln1", to + "attn_norm");
    both(from + "ln2", to + "ffn_norm");
    both(from + "att.ln_x", to + "attn.g_norm");
    for (const char* part : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a", "r_k"}) {
      loader.alias(fmt::format("{}att.{}", from, part), fmt::format("{}attn.{}", to, part));
    }
    for (const auto& [name, actual] : {std::pair{"receptance", "r"}, {"key", "k"}, {"value", "v"}, {"output", "o"}}) {
      loader.alias(fmt::format("{}att.{}.weight", from, name), fmt::format("{}attn.{}_proj.weight", to, actual));
    }
    for (const char letter : {'w', 'a', 'v', 'g'}) {
      const std::string lora = fmt::format("{}attn.{}_lora.lora.", to, letter);
      // With ".weight" they stand like other matrices; the bare names are for messages.
      for (const char* ending : {".weight", ""}) {
        loader.alias(fmt::format("{}att.{}1{}", from, letter, ending), lora + "0.weight");
        loader.alias(fmt::format("{}att.{}2{}", from, letter, ending), lora + "2.weight");
      }
      loader.alias(fmt::format("{}att.{}0", from, letter), lora + "2.bias");
    }
    for (const char* part : {"x_k", "key.weight", "value.weight"}) {
      loader.alias(fmt::format("{}ffn.{}", from, part), fmt::format("{}ffn.{}", to, part));
    }
  }
}

const Names* find_names(WeightLoader& loader) {
  if (loader.is_gguf()) return &kGguf;
  if (loader.has("model.layers.0.attn.r_k")) alias_transformers(loader);
  if (loader.has("blocks.0.att.r_k")) return &kOriginal;
  if (loader.has("rwkv1.r_k")) return &kReversal;
  loader.set_error({ErrorCode::kUnsupported,
                    fmt::format("[models] an rwkv7 is read under its authors' names, transformers' or GGUF's; this "
                                "has none of them: no blocks.0.att.r_k ({})",
                                loader.config().origin())});
  return nullptr;
}

struct Sizes {
  std::int64_t layers = 0, vocabulary = 0, width = 0, heads = 0, head_width = 0;
  float epsilon = 1e-5F;
};

Sizes read_sizes(WeightLoader& loader, const Names& names) {
  Sizes sizes;
  const Shape embedding = loader.shape(names.embedding);
  if (embedding.size() == 2) {
    sizes.vocabulary = embedding[0];
    sizes.width = embedding[1];
  }
  if (loader.is_gguf()) {
    sizes.layers = loader.size("rwkv7.block_count");
    sizes.width = loader.size("rwkv7.embedding_length");
    sizes.head_width = loader.size("rwkv7.wkv.head_size");
    sizes.heads = sizes.width / sizes.head_width;
    sizes.epsilon = static_cast<float>(loader.number_or("rwkv7.attention.layer_norm_epsilon", 1e-5));
  } else {
    while (loader.has(names.block(sizes.layers).time_mix + "r_k")) ++sizes.layers;
    const Shape r_k = loader.shape(names.block(0).time_mix + "r_k");
    if (r_k.size() == 2) {
      sizes.heads = r_k[0];
      sizes.head_width = r_k[1];
    }
  }
  if (loader.failed()) return sizes;
  // No dimension of a model comes near 2^24; products of two stay far from overflow.
  constexpr std::int64_t kLargest = std::int64_t{1} << 24;
  const bool sound =
      std::ranges::all_of(std::array{sizes.layers, sizes.vocabulary, sizes.width, sizes.heads, sizes.head_width},
                          [](std::int64_t size) { return size >= 1 && size <= kLargest; });
  if (!sound || sizes.heads * sizes.head_width != sizes.width) {
    loader.set_error({ErrorCode::kCorrupt,
                      fmt::format("[models] an rwkv7 of {} layers, {} tokens, width {} and {} heads of {} does not add "
                                  "up ({})",
                                  sizes.layers, sizes.vocabulary, sizes.width, sizes.heads, sizes.head_width,
                                  loader.config().origin())});
  }
  if (loader.state_dtype() != DType::kF32) {
    loader.set_error({ErrorCode::kUnsupported, "[models] an rwkv7 keeps its states as f32"});
  }
  return sizes;
}

kernels::LayerNorm load_norm(WeightLoader& loader, const std::string& name, const Sizes& sizes) {
  return {.weight = loader.vector(name + ".weight", sizes.width),
          .bias = loader.vector(name + ".bias", sizes.width),
          .epsilon = sizes.epsilon};
}

// The reversal models have another branch, ROSA, beside the time mixing: o(+-emb) with signs from a suffix automaton.
// Where emb is zero nothing but the bias of o is left; that is the only kind that is known here.
const float* load_rosa_bias(WeightLoader& loader, const std::string& prefix, std::int64_t width) {
  if (prefix.empty() || !loader.has(prefix + "o.bias")) return nullptr;
  const float* signs = loader.vector(prefix + "rosa_qkv.emb", width);
  if (signs != nullptr && std::any_of(signs, signs + width, [](float v) { return v != 0.0F; })) {
    loader.set_error({ErrorCode::kUnsupported,
                      fmt::format("[models] {}rosa_qkv.emb is not zero: the ROSA operator is not supported ({})",
                                  prefix, loader.config().origin())});
  }
  return loader.vector(prefix + "o.bias", width);
}

class Rwkv7 final : public Model {
 public:
  Rwkv7(WeightLoader& loader, const Names& names, const Sizes& sizes) : width_(sizes.width) {
    embedding_ = loader.embedding(names.embedding, sizes.vocabulary, sizes.width);
    has_embedding_norm_ = !names.embedding_norm.empty();
    if (has_embedding_norm_) embedding_norm_ = load_norm(loader, names.embedding_norm, sizes);
    for (std::int64_t i = 0; i < sizes.layers && !loader.failed(); ++i) {
      const BlockNames block = names.block(i);
      const std::string state = fmt::format("layers.{}", i);
      const float* bias = load_rosa_bias(loader, block.rosa, sizes.width);
      layers_.push_back(
          {load_norm(loader, block.norm1, sizes),
           Rwkv7TimeMix({loader, block.time_mix, block.time_mix}, sizes.heads, sizes.head_width, i == 0, bias,
                        state_layout_, state),
           load_norm(loader, block.norm2, sizes),
           Rwkv7ChannelMix({loader, block.channel_mix, block.channel_mix}, sizes.width, state_layout_, state)});
    }
    output_norm_ = load_norm(loader, names.output_norm, sizes);
    head_.weight = loader.embedding(names.head, sizes.vocabulary, sizes.width);
    if (loader.has(names.head_bias)) head_.bias = loader.vector(names.head_bias, sizes.vocabulary);
    loader.count_head(head_.weight);
    info_.architecture = "rwkv7";
    info_.layers = sizes.layers;
    info_.width = sizes.width;
    info_.vocabulary = sizes.vocabulary;
    weights_ = loader.finish(info_);
  }

  void forward(Step& step, kernels::RowsOut hidden) const override {
    ThreadPool& pool = step.pool();
    const kernels::RowsOut residual = step.rows(width_);  // [M, C]
    const kernels::RowsOut normed = step.rows(width_);
    const kernels::RowsOut delta = step.rows(width_);
    const kernels::RowsOut first_value = step.rows(width_);  // v of the first layer
    kernels::embed(pool, embedding_, step.tokens().data(), residual);
    if (has_embedding_norm_) kernels::layer_norm(pool, embedding_norm_, residual, residual);
    step.lap_rows("embedding", width_);
    for (const Layer& layer : layers_) {
      kernels::layer_norm(pool, layer.norm1, residual, normed);
      step.lap_rows("norm", width_);
      layer.time_mix.forward(step, normed, first_value, delta);
      kernels::add(pool, delta, residual);
      kernels::layer_norm(pool, layer.norm2, residual, normed);
      step.lap_rows("norm", 2 * width_);
      layer.channel_mix.forward(step, normed, delta);
      kernels::add(pool, delta, residual);
      step.lap_rows("norm", width_);
    }
    const Workspace::Mark scratch(step.workspace());
    const kernels::RowsOut last = wanted_rows(step, residual);
    if (last.rows > 0) kernels::layer_norm(pool, output_norm_, last, hidden);
    step.lap_rows("norm", 0);
  }

 private:
  struct Layer {
    kernels::LayerNorm norm1;
    Rwkv7TimeMix time_mix;
    kernels::LayerNorm norm2;
    Rwkv7ChannelMix channel_mix;
  };

  std::int64_t width_;
  kernels::WeightMatrix embedding_;  // [V, C]
  bool has_embedding_norm_ = false;
  kernels::LayerNorm embedding_norm_;
  std::vector<Layer> layers_;
  kernels::LayerNorm output_norm_;
  LoadedWeights weights_;
};

}  // namespace

std::unique_ptr<Model> load_rwkv7(WeightLoader& loader) {
  const Names* names = find_names(loader);
  if (names == nullptr) return nullptr;
  const Sizes sizes = read_sizes(loader, *names);
  if (loader.failed()) return nullptr;
  return std::make_unique<Rwkv7>(loader, *names, sizes);
}

}  // namespace krait::models
