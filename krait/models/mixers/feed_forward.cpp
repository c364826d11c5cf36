#include "krait/models/mixers/feed_forward.h"

#include "krait/core/check.h"
#include "krait/kernels/activation.h"

namespace krait::models {
namespace {

bool is_fused(FeedForwardForm form) {
  return form == FeedForwardForm::kFusedGateFirst || form == FeedForwardForm::kFusedValueFirst;
}

}  // namespace

FeedForward::FeedForward(const WeightScope& scope, std::int64_t width, std::optional<std::int64_t> hidden,
                         FeedForwardForm form, FeedForwardActivation activation, const FeedForwardNames& names)
    : form_(form), activation_(activation) {
  const std::string down = names.down + ".weight", gguf_down = names.gguf_down + ".weight";
  if (!hidden) {
    const Shape shape = scope.loader().shape(scope.name(down, gguf_down));
    if (scope.loader().failed()) return;
    hidden = shape.empty() ? 0 : shape.back();
  }
  hidden_ = *hidden;
  const MatrixOptions how = {.rows = {}, .gguf_scale = names.gguf_scales};
  // llama.cpp multiplies with a GGUF's scale after the bias here, where attention's projections have it before.
  const auto bias = [&](const std::string& name, const std::string& gguf, const kernels::WeightMatrix& weight) {
    float* values = scope.vector_if_present(name + ".bias", gguf + ".bias", weight.rows);
    for (std::int64_t i = 0; values != nullptr && i < weight.rows; ++i) values[i] *= weight.scale;
    return values;
  };
  if (form == FeedForwardForm::kGateUp) {
    gate_ = scope.matrix(names.gate + ".weight", names.gguf_gate + ".weight", hidden_, width, how);
    gate_bias_ = bias(names.gate, names.gguf_gate, gate_);
  }
  const std::int64_t rows = is_fused(form) ? 2 * hidden_ : hidden_;
  up_ = scope.matrix(names.up + ".weight", names.gguf_up + ".weight", rows, width, how);
  up_bias_ = bias(names.up, names.gguf_up, up_);
  down_ = scope.matrix(down, gguf_down, width, hidden_, how);
  down_bias_ = bias(names.down, names.gguf_down, down_);
}

FeedForward::FeedForward(FeedForwardForm form, FeedForwardActivation activation, kernels::WeightMatrix gate,
                         kernels::WeightMatrix up, kernels::WeightMatrix down)
    : form_(form), activation_(activation), hidden_(down.columns), gate_(gate), up_(up), down_(down) {}

void FeedForward::scale(float gate, float down) {
  KRAIT_CHECK(form_ == FeedForwardForm::kGateUp && gate_bias_ == nullptr && down_bias_ == nullptr,
              "scales {} and {} of a fused MLP or one with biases", gate, down);
  gate_.scale *= gate;
  down_.scale *= down;
}

void FeedForward::append_inputs(std::vector<kernels::GroupedProduct>& products, std::int64_t first_row,
                                kernels::RowsOut scratch) const {
  if (form_ != FeedForwardForm::kGateUp) {
    products.push_back({.weight = &up_, .bias = up_bias_, .y = scratch, .first_row = first_row});
    return;
  }
  products.push_back(
      {.weight = &up_, .bias = up_bias_, .y = scratch.slice_columns(0, hidden_), .first_row = first_row});
  products.push_back(
      {.weight = &gate_, .bias = gate_bias_, .y = scratch.slice_columns(hidden_, hidden_), .first_row = first_row});
}

void FeedForward::activate(ThreadPool& pool, kernels::RowsOut scratch) const {
  const kernels::RowsOut first = scratch.slice_columns(0, hidden_);
  if (form_ == FeedForwardForm::kUngated) {
    switch (activation_) {
      case FeedForwardActivation::kSilu: return kernels::silu(pool, first, first);
      case FeedForwardActivation::kGelu: return kernels::gelu(pool, first, first);
      case FeedForwardActivation::kSquaredRelu: return kernels::squared_relu(pool, first, first);
    }
  }
  const kernels::RowsOut second = scratch.slice_columns(hidden_, hidden_);
  const bool gate_first = form_ == FeedForwardForm::kFusedGateFirst;
  const kernels::RowsOut &value = gate_first ? second : first, &gate = gate_first ? first : second;
  switch (activation_) {
    case FeedForwardActivation::kSilu: return kernels::silu_gate(pool, value, gate, first);
    case FeedForwardActivation::kGelu: return kernels::gelu_gate(pool, value, gate, first);
    case FeedForwardActivation::kSquaredRelu:
      kernels::squared_relu(pool, gate, gate);
      if (gate_first) {
        kernels::multiply(pool, value, first);
      } else {
        kernels::multiply(pool, gate, first);
      }
  }
}

void FeedForward::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark mark(step.workspace());
  const kernels::RowsOut scratch = step.workspace().rows(u.rows, scratch_columns());
  std::vector<kernels::GroupedProduct> products;
  append_inputs(products, 0, scratch);
  kernels::linear_group(step.pool(), u, products);
  activate(step.pool(), scratch);
  kernels::linear(step.pool(), scratch.slice_columns(0, hidden_), down_, down_bias_, out);
  step.lap("mlp", {&gate_, &up_, &down_}, u.rows);
}

}  // namespace krait::models
