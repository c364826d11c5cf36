// The gated MLP that state-spaces' checkpoints may have after each mixer (d_intermediate > 0).
//   [value; gate] = W1 u,  out = W2 (value * silu(gate))
#pragma once

#include "krait/kernels/matmul.h"
#include "krait/models/step.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

class GatedMlp {
 public:
  // The hidden width is that of fc2.weight [D, hidden]: the original code rounds the configured one up.
  GatedMlp(const WeightScope& scope, std::int64_t width);

  // u [M, D] -> out [M, D]
  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const;

 private:
  std::int64_t hidden_ = 0;
  kernels::WeightMatrix fc1_;  // [2 hidden, D], value above gate
  kernels::WeightMatrix fc2_;  // [D, hidden]
};

}  // namespace krait::models
