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

void FeedForward::forward_rows(ThreadPool& pool, kernels::RowsIn u, kernels::RowsOut scratch,
                               kernels::RowsOut out) const {
  kernels::RowsOut value = scratch.slice_columns(0, hidden_);
  if (form_ == FeedForwardForm::kUngated) {
    kernels::linear(pool, u, up_, up_bias_, value);
    if (activation_ == FeedForwardActivation::kSquaredRelu) {
      kernels::squared_relu(pool, value, value);
    } else if (activation_ == FeedForwardActivation::kSilu) {
      kernels::silu(pool, value, value);
    } else {
      kernels::gelu(pool, value, value);
    }
  } else {
    kernels::RowsOut gate = scratch.slice_columns(hidden_, hidden_);
    if (is_fused(form_)) {
      kernels::linear(pool, u, up_, up_bias_, scratch);
      if (form_ == FeedForwardForm::kFusedGateFirst) std::swap(value, gate);
    } else {
      kernels::linear(pool, u, gate_, gate_bias_, gate);
      kernels::linear(pool, u, up_, up_bias_, value);
    }
    if (activation_ == FeedForwardActivation::kSilu) {
      kernels::silu_gate(pool, value, gate, value);
    } else if (activation_ == FeedForwardActivation::kGelu) {
      kernels::gelu_gate(pool, value, gate, value);
    } else {
      kernels::squared_relu(pool, gate, gate);
      kernels::multiply(pool, gate, value);
    }
  }
  kernels::linear(pool, value, down_, down_bias_, out);
}

void FeedForward::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  forward_rows(step.pool(), u, step.rows(scratch_columns()), out);
  step.lap("mlp", {&gate_, &up_, &down_}, step.row_count());
}

}  // namespace krait::models
