#include "krait/models/mixers/low_rank.h"

#include "krait/kernels/activation.h"

namespace krait::models {

void LowRank::add(Step& step, kernels::RowsIn x, kernels::RowsOut y) const {
  const Workspace::Mark scratch(step.workspace());
  const kernels::RowsOut narrow = step.workspace().rows(x.rows, a.rows);
  const kernels::RowsOut wide = step.workspace().rows(x.rows, b.rows);
  kernels::linear(step.pool(), x, a, nullptr, narrow);
  kernels::linear(step.pool(), narrow, b, nullptr, wide);
  kernels::add(step.pool(), wide, y);
  step.lap("adapter", {&a, &b}, x.rows);
}

}  // namespace krait::models
