// The loss of a batch and its gradients one layer at a time, for runs whose layers' activations are not to be in memory
// together (Chen et al. 2016, arXiv 1604.06174). Forward keeps what goes into each layer; backward, from the last layer
// on, computes a layer again, this time for its gradients, which are given away before the layer below begins. Losses
// and gradients are to the bit those of LanguageModel::loss() under autograd.
#pragma once

#include "krait/nn/language_model.h"
#include "krait/train/batch.h"

namespace krait::train {

// Where gradients go. Parameters are numbered as the module names them.
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  // The share of one batch, which is added to those of the step's batches before.
  virtual void add(std::size_t parameter, at::Tensor gradient) = 0;
  // The first of two parts of a batch's share, whose second add() brings.
  virtual void add_first_part(std::size_t parameter, at::Tensor gradient) = 0;
};

// In the parameters' own grad().
class GradientTensors final : public GradientSink {
 public:
  explicit GradientTensors(const torch::nn::Module& module) : parameters_(module.parameters()) {}
  void add(std::size_t parameter, at::Tensor gradient) override;
  void add_first_part(std::size_t parameter, at::Tensor gradient) override;

 private:
  std::vector<at::Tensor> parameters_;
  at::Tensor first_part_;
  std::size_t first_part_of_ = 0;
};

// Where the streams between layers are until backward needs them.
class LayerInputs {
 public:
  virtual ~LayerInputs() = default;
  // Of layer 1 and those above.
  virtual void put(std::int64_t layer, const nn::LayerStream& stream) = 0;
  // Valid until drop(), without autograd's history.
  virtual nn::LayerStream get(std::int64_t layer) = 0;
  virtual void drop(std::int64_t layer) = 0;
};

class LayeredGradients {
 public:
  // All must outlive it; `keeper` may be null.
  LayeredGradients(nn::LanguageModel& model, nn::ParameterKeeper* keeper, LayerInputs& inputs, GradientSink& sink);

  // Gives the loss; the options of LanguageModel::loss(). rows: of the batch (trainer.h).
  double run(const Batch& batch, const nn::Batch& rows, const nn::TokenLossOptions& options, double divisor);

 private:
  struct Parameter {
    std::size_t number;
    at::Tensor tensor;
  };
  // Gradients of the outputs, times `upstream`: those of the part's parameters go to the sink, those of the stream that
  // the part began with come back. Where the embedding is the head, its gradient there is a first part.
  nn::LayerStream backward(std::int64_t part, const std::vector<at::Tensor>& outputs,
                           const std::vector<at::Tensor>& upstream, const nn::LayerStream& begin);
  void fetch(std::int64_t part, std::int64_t next);
  void leave(std::int64_t part);

  nn::LanguageModel& model_;
  nn::ParameterKeeper* keeper_;
  LayerInputs& inputs_;
  GradientSink& sink_;
  std::vector<std::vector<Parameter>> parts_;
};

}  // namespace krait::train
