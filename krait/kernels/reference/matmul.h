// Oracle: a dense product and the reductions of one row of logits, in double.
#pragma once

#include <span>
#include <vector>

#include "krait/kernels/matmul.h"
#include "krait/kernels/reference/elementwise.h"

namespace krait::kernels::reference {

// weight[row, column] as f32.
float weight_at(const WeightMatrix& weight, std::int64_t row, std::int64_t column);

void linear(RowsIn x, const WeightMatrix& weight, const float* bias, RowsDouble y);

double log_sum_exp(std::span<const float> logits);
std::vector<double> softmax(std::span<const float> logits, double temperature);

}  // namespace krait::kernels::reference
