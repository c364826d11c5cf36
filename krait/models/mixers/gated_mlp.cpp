#include "krait/models/mixers/gated_mlp.h"

#include "krait/kernels/activation.h"

namespace krait::models {

GatedMlp::GatedMlp(const WeightScope& scope, std::int64_t width) {
  const Shape shape = scope.loader().shape(scope.name("fc2.weight", "ffn_down.weight"));
  if (scope.loader().failed()) return;
  hidden_ = shape.empty() ? 0 : shape.back();
  fc1_ = scope.matrix("fc1.weight", "ffn_up.weight", 2 * hidden_, width);
  fc2_ = scope.matrix("fc2.weight", "ffn_down.weight", width, hidden_);
}

void GatedMlp::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  const kernels::RowsOut both = step.rows(2 * hidden_);
  kernels::linear(step.pool(), u, fc1_, nullptr, both);
  step.lap("mlp fc1", fc1_);
  const kernels::RowsOut value = both.slice_columns(0, hidden_);
  kernels::silu_gate(step.pool(), value, both.slice_columns(hidden_, hidden_), value);
  step.lap_rows("mlp gate", 2 * hidden_);
  kernels::linear(step.pool(), value, fc2_, nullptr, out);
  step.lap("mlp fc2", fc2_);
}

}  // namespace krait::models
