#include "krait/nn/language_model.h"

#include <ATen/Functions.h>

#include <cmath>
#include <string>

#include "krait/nn/embedding.h"
#include "krait/nn/norms.h"

namespace krait::nn {
namespace {

struct TableWeight : torch::nn::Module {
  TableWeight(std::int64_t rows, std::int64_t width, double deviation) {
    weight = register_parameter("weight", at::empty({rows, width}).normal_(0.0, deviation));
  }
  Tensor weight;
};

}  // namespace

LanguageModel::LanguageModel(const LanguageModelDimensions& dimensions,
                             const std::function<std::shared_ptr<Mixer>(std::int64_t)>& make_mixer)
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
  }
  last_norm_ = backbone->register_module("norm_f", std::make_shared<NormWeight>(of.width));
  if (!of.tied) {
    const auto head = std::make_shared<TableWeight>(of.padded_vocabulary, of.width, of.embedding_deviation);
    register_module("lm_head", head);
    head_ = head->weight;
  }
}

Tensor LanguageModel::hidden(std::span<const std::int32_t> tokens, const Batch& batch) {
  Tensor residual = embed(embedding_, tokens);
  Tensor delta;
  // The norm of what the stream is after the last block's share.
  const auto next = [&](const NormWeight& norm) {
    if (!delta.defined()) return rms_norm(residual, norm.weight, dimensions_.epsilon);
    AddedNorm added = add_rms_norm(residual, delta, norm.weight, dimensions_.epsilon);
    residual = added.sum;
    return added.y;
  };
  for (const Layer& layer : layers_) {
    delta = layer.mixer->forward(next(*layer.norm), batch);
    if (layer.feed_forward != nullptr) delta = layer.feed_forward->forward(next(*layer.norm2));
  }
  return next(*last_norm_);
}

Tensor LanguageModel::logits(std::span<const std::int32_t> tokens, const Batch& batch) {
  return nn::linear(hidden(tokens, batch), head_).narrow(1, 0, dimensions_.vocabulary);
}

TokenLossResult LanguageModel::loss(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets,
                                    const Batch& batch, std::span<const float> row_weights, double z_factor,
                                    double divisor) {
  return token_loss(hidden(tokens, batch), head_, targets, row_weights,
                    {.vocabulary = dimensions_.vocabulary, .z_factor = z_factor}, divisor);
}

}  // namespace krait::nn
