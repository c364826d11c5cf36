// `linear` for a few rows: the weights are read once, at memory speed, and every row of x takes part in that pass.
// The sum of each output is formed in the same order whatever M is, so a row gives the same bits alone and among
// others.
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/matmul.h"

namespace krait::kernels {

void linear_few_rows(ThreadPool& pool, RowsIn x, const WeightMatrix& weight, const float* bias, RowsOut y);

}  // namespace krait::kernels
