// An adapter of low rank beside a weight matrix that several layers share (Hu et al. 2021): y += B (A x).
#pragma once

#include "krait/kernels/matmul.h"
#include "krait/models/step.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct LowRank {
  kernels::WeightMatrix a;  // [rank, inputs]
  kernels::WeightMatrix b;  // [outputs, rank]

  // "0.weight" and "1.weight" inside the scope.
  static LowRank load(const WeightScope& scope, std::int64_t inputs, std::int64_t rank, std::int64_t outputs) {
    return {scope.matrix("0.weight", "", rank, inputs), scope.matrix("1.weight", "", outputs, rank)};
  }

  // x [M, inputs], y [M, outputs]
  void add(Step& step, kernels::RowsIn x, kernels::RowsOut y) const;
};

}  // namespace krait::models
