#include "krait/models/model.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::models {

void Model::logits(Step& step, kernels::RowsIn hidden, kernels::RowsOut logits) const {
  if (hidden.rows == 0) return;
  KRAIT_CHECK_EQ(logits.rows, hidden.rows);
  KRAIT_CHECK_EQ(logits.columns, head_.weight.rows);
  kernels::linear(step.pool(), hidden, head_.weight, head_.bias, logits);
  step.lap("head", head_.weight, hidden.rows);
}

std::string Model::batch_dependence() const {
  std::string why = info_.batch_dependence;
  const auto is_rounded = [](const StateTensor& tensor) {
    return tensor.kind == StateKind::kRecurrent && (tensor.dtype == DType::kBF16 || tensor.dtype == DType::kI8);
  };
  if (const auto rounded = std::ranges::find_if(state_layout_.tensors(), is_rounded);
      rounded != state_layout_.tensors().end()) {
    why += fmt::format("{}states in {}", why.empty() ? "" : ", ", to_string(rounded->dtype));
  }
  return why;
}

}  // namespace krait::models
