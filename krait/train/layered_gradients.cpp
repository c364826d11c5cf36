#include "krait/train/layered_gradients.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>

#include "krait/train/trainer.h"

namespace krait::train {
namespace {

using at::Tensor;

// The same numbers as the begin of a graph.
nn::LayerStream leaves_of(const nn::LayerStream& stream) {
  const auto leaf = [](const Tensor& tensor) {
    return tensor.defined() ? tensor.detach().set_requires_grad(true) : Tensor();
  };
  return {leaf(stream.residual), leaf(stream.delta)};
}

}  // namespace

void GradientTensors::add(std::size_t parameter, Tensor gradient) {
  if (first_part_.defined() && first_part_of_ == parameter) gradient = std::exchange(first_part_, {}) + gradient;
  Tensor& sum = parameters_[parameter].mutable_grad();
  if (sum.defined()) {
    sum.add_(gradient);
  } else {
    sum = std::move(gradient);
  }
}

void GradientTensors::add_first_part(std::size_t parameter, Tensor gradient) {
  first_part_of_ = parameter;
  first_part_ = std::move(gradient);
}

LayeredGradients::LayeredGradients(nn::LanguageModel& model, nn::ParameterKeeper* keeper, LayerInputs& inputs,
                                   GradientSink& sink)
    : model_(model), keeper_(keeper), inputs_(inputs), sink_(sink), parts_(static_cast<std::size_t>(model.parts())) {
  std::size_t number = 0;
  for (const auto& parameter : model.named_parameters()) {
    parts_[static_cast<std::size_t>(model.part_of(parameter.key()))].push_back({number++, parameter.value()});
  }
  if (model.dimensions().tied) parts_.back().push_back(parts_.front().front());
}

void LayeredGradients::fetch(std::int64_t part, std::int64_t next) {
  if (keeper_ != nullptr) keeper_->fetch(part, next);
}

void LayeredGradients::leave(std::int64_t part) {
  if (keeper_ != nullptr) keeper_->leave(part);
}

nn::LayerStream LayeredGradients::backward(std::int64_t part, const std::vector<Tensor>& outputs,
                                           const std::vector<Tensor>& upstream, const nn::LayerStream& begin) {
  const std::vector<Parameter>& parameters = parts_[static_cast<std::size_t>(part)];
  std::vector<Tensor> inputs;
  for (const Parameter& parameter : parameters) inputs.push_back(parameter.tensor);
  for (const Tensor& stream : {begin.residual, begin.delta}) {
    if (stream.defined()) inputs.push_back(stream);
  }
  std::vector<Tensor> gradients =
      torch::autograd::grad(outputs, inputs, upstream, c10::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
  const bool of_head = part == model_.parts() - 1;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Tensor gradient = std::exchange(gradients[i], {});
    if (!gradient.defined()) continue;
    if (of_head && parameters[i].number == parts_.front().front().number) {
      sink_.add_first_part(parameters[i].number, std::move(gradient));
    } else {
      sink_.add(parameters[i].number, std::move(gradient));
    }
  }
  nn::LayerStream result;
  if (begin.residual.defined()) result.residual = gradients[parameters.size()];
  if (begin.delta.defined()) result.delta = gradients[parameters.size() + 1];
  return result;
}

double LayeredGradients::run(const Batch& batch, const nn::Batch& rows, const nn::TokenLossOptions& options,
                             double divisor) {
  const std::int64_t layers = model_.dimensions().layers, last = layers + 1;
  fetch(0, 1);
  // Its graph stays: it holds the tokens alone, and the output is what the first layer begins with.
  const nn::LayerStream embedded = model_.begin(batch.ids);
  leave(0);
  nn::LayerStream stream{embedded.residual.detach(), {}};
  for (std::int64_t i = 0; i < layers; ++i) {
    if (i > 0) inputs_.put(i, stream);
    fetch(i + 1, i + 2);
    const at::NoGradGuard guard;
    stream = model_.layer(i, stream, rows);
    leave(i + 1);
  }
  fetch(last, layers);
  stream = leaves_of(stream);
  double loss = 0.0;
  nn::LayerStream upstream;
  {
    const nn::TokenLossResult result = model_.head_loss(stream, batch.labels, {}, options, divisor);
    loss = result.loss.to(at::kDouble).item<double>();
    upstream = backward(last, {result.loss}, {}, std::exchange(stream, {}));
  }
  leave(last);
  for (std::int64_t i = layers - 1; i >= 0; --i) {
    fetch(i + 1, i > 0 ? i : -1);
    {
      const nn::LayerStream begin = leaves_of(i > 0 ? inputs_.get(i) : embedded);
      const nn::LayerStream end = model_.layer(i, begin, rows);
      upstream = backward(i + 1, {end.residual, end.delta}, {upstream.residual, upstream.delta}, begin);
    }
    if (i > 0) inputs_.drop(i);
    leave(i + 1);
  }
  backward(0, {embedded.residual}, {upstream.residual}, {});
  return loss;
}

}  // namespace krait::train
