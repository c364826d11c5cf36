#include "krait/nn/language_model.h"

#include <ATen/Functions.h>

#include <cmath>
#include <string>
#include <string_view>

#include "krait/core/check.h"
#include "krait/nn/embedding.h"
#include "krait/nn/norms.h"
#include "krait/nn/segment_means.h"

namespace krait::nn {
namespace {

struct TableWeight : torch::nn::Module {
  TableWeight(std::int64_t rows, std::int64_t width, double deviation) {
    weight = register_parameter("weight", at::empty({rows, width}).normal_(0.0, deviation));
  }
  Tensor weight;
};

// A part of the model, from before it is read until after.
class PartInUse {
 public:
  PartInUse(ParameterKeeper* keeper, std::int64_t part, std::int64_t next) : keeper_(keeper), part_(part) {
    if (keeper_ != nullptr) keeper_->fetch(part, next);
  }
  PartInUse(const PartInUse&) = delete;
  PartInUse& operator=(const PartInUse&) = delete;
  ~PartInUse() {
    if (keeper_ != nullptr) keeper_->leave(part_);
  }

 private:
  ParameterKeeper* keeper_;
  std::int64_t part_;
};

}  // namespace

LanguageModel::LanguageModel(const LanguageModelDimensions& dimensions,
                             const std::function<std::shared_ptr<Mixer>(std::int64_t)>& make_mixer,
                             const MadePart& made)
    : dimensions_(dimensions) {
  LanguageModelDimensions& of = dimensions_;
  if (of.padded_vocabulary == 0) of.padded_vocabulary = of.vocabulary;
  if (of.vocabulary < 1 || of.padded_vocabulary < of.vocabulary || of.width < 1 || of.layers < 1) {
    throw UserError(fmt::format("a model of {} tokens ({} with padding), width {} and {} layers", of.vocabulary,
                                of.padded_vocabulary, of.width, of.layers),
                    "all must be positive, and padding can only add tokens");
  }
  const auto backbone = register_module("backbone", std::make_shared<torch::nn::Module>());
  const auto table = std::make_shared<TableWeight>(of.padded_vocabulary, of.width, of.embedding_deviation);
  backbone->register_module("embedding", table);
  embedding_ = head_ = table->weight;
  const auto tell = [&](const torch::nn::Module& module, const std::string& prefix) {
    if (made) made(module, prefix);
  };
  tell(*table, "backbone.embedding.");
  const auto list = backbone->register_module("layers", std::make_shared<torch::nn::Module>());
  const double shrink = 1.0 / std::sqrt(static_cast<double>(of.layers * (of.feed_forward > 0 ? 2 : 1)));
  for (std::int64_t i = 0; i < of.layers; ++i) {
    const auto block = list->register_module(std::to_string(i), std::make_shared<torch::nn::Module>());
    Layer layer{.norm = block->register_module("norm", std::make_shared<NormWeight>(of.width)),
                .norm2 = {},
                .mixer = block->register_module("mixer", make_mixer(i)),
                .feed_forward = {}};
    if (of.feed_forward > 0) {
      layer.norm2 = block->register_module("norm2", std::make_shared<NormWeight>(of.width));
      layer.feed_forward = block->register_module("mlp", std::make_shared<FeedForward>(of.width, of.feed_forward));
    }
    const at::NoGradGuard guard;
    for (const auto& parameter : block->named_parameters()) {
      const bool leaves = parameter.key().ends_with("out_proj.weight") || parameter.key().ends_with("o_proj.weight") ||
                          parameter.key().ends_with("fc2.weight");
      if (leaves) parameter.value().mul_(shrink);
    }
    layers_.push_back(std::move(layer));
    tell(*block, fmt::format("backbone.layers.{}.", i));
  }
  last_norm_ = backbone->register_module("norm_f", std::make_shared<NormWeight>(of.width));
  tell(*last_norm_, "backbone.norm_f.");
  if (!of.tied) {
    const auto head = std::make_shared<TableWeight>(of.padded_vocabulary, of.width, of.embedding_deviation);
    register_module("lm_head", head);
    head_ = head->weight;
    tell(*head, "lm_head.");
  }
}

LayerStream LanguageModel::begin(std::span<const std::int32_t> tokens) {
  return {.residual = embed(embedding_, tokens), .delta = {}};
}

LayerStream LanguageModel::layer(std::int64_t i, const LayerStream& before, const Batch& batch) {
  const Layer& layer = layers_.at(static_cast<std::size_t>(i));
  LayerStream stream = before;
  stream.delta = layer.mixer->forward(next_norm(stream, *layer.norm), batch);
  if (layer.feed_forward != nullptr) stream.delta = layer.feed_forward->forward(next_norm(stream, *layer.norm2));
  if (batch.pooled && i + 1 == dimensions_.layers) {
    for (Tensor* part : {&stream.residual, &stream.delta}) *part = segment_means(*part, batch.segments);
  }
  return stream;
}

Tensor LanguageModel::end(LayerStream last) { return next_norm(last, *last_norm_); }

// The norm of what the stream is after the last block's share.
Tensor LanguageModel::next_norm(LayerStream& stream, const NormWeight& norm) const {
  if (!stream.delta.defined()) return rms_norm(stream.residual, norm.weight, dimensions_.epsilon);
  AddedNorm added = add_rms_norm(stream.residual, stream.delta, norm.weight, dimensions_.epsilon);
  stream.residual = added.sum;
  return added.y;
}

LayerStream LanguageModel::through_layers(std::span<const std::int32_t> tokens, const Batch& batch) {
  KRAIT_CHECK(keeper_ == nullptr || !at::GradMode::is_enabled(), "gradients through parameters that are not here");
  LayerStream stream;
  {
    const PartInUse embedding(keeper_, 0, 1);
    stream = begin(tokens);
  }
  for (std::int64_t i = 0; i < dimensions_.layers; ++i) {
    const PartInUse part(keeper_, i + 1, i + 2);
    stream = layer(i, stream, batch);
  }
  return stream;
}

std::int64_t LanguageModel::part_of(const std::string& name) const {
  constexpr std::string_view kLayers = "backbone.layers.";
  if (name.starts_with("backbone.embedding.")) return 0;
  return name.starts_with(kLayers) ? std::stoll(name.substr(kLayers.size())) + 1 : dimensions_.layers + 1;
}

Tensor LanguageModel::hidden(std::span<const std::int32_t> tokens, const Batch& batch) {
  LayerStream last = through_layers(tokens, batch);
  const PartInUse part(keeper_, dimensions_.layers + 1, -1);
  return end(std::move(last));
}

Tensor LanguageModel::logits(std::span<const std::int32_t> tokens, const Batch& batch) {
  LayerStream last = through_layers(tokens, batch);
  const PartInUse part(keeper_, dimensions_.layers + 1, -1);
  return nn::linear(end(std::move(last)), head_).narrow(1, 0, dimensions_.vocabulary);
}

TokenLossResult LanguageModel::loss(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets,
                                    const Batch& batch, std::span<const float> row_weights, TokenLossOptions options,
                                    double divisor) {
  LayerStream last = through_layers(tokens, batch);
  const PartInUse part(keeper_, dimensions_.layers + 1, -1);
  return head_loss(std::move(last), targets, row_weights, options, divisor);
}

TokenLossResult LanguageModel::head_loss(LayerStream last, std::span<const std::int32_t> targets,
                                         std::span<const float> row_weights, TokenLossOptions options, double divisor) {
  const Tensor hidden = end(std::move(last));  // which has all that is needed of the stream
  options.vocabulary = dimensions_.vocabulary;
  return token_loss(hidden, head_, targets, row_weights, options, divisor);
}

}  // namespace krait::nn
