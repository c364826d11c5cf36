// Rows of a table by their numbers, under autograd.
#pragma once

#include <span>

#include "krait/nn/tensor_rows.h"

namespace krait::nn {

// table [V, D] -> [M, D]. UserError for an id outside the table.
Tensor embed(const Tensor& table, std::span<const std::int32_t> ids);

}  // namespace krait::nn
