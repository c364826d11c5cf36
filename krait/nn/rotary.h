// Rotary position embedding under autograd (kernels/rotary.h).
#pragma once

#include "krait/kernels/rotary.h"
#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

// [M, width] for `rows` rows, whose positions count from the start of their segment: cosines, then sines. Rows of no
// segment are at position 0. One for all layers of a batch. `type` is that of the activations.
Tensor rotary_table(const kernels::Rotary& rotary, const Segments& segments, std::int64_t rows, at::ScalarType type);

// x [..., heads * head_width], the first rotary.width components of every head turned.
Tensor rotate(const kernels::Rotary& rotary, const Tensor& table, std::int64_t head_width, const Tensor& x);

}  // namespace krait::nn
