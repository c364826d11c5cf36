// Oracle: dense products with either operand transposed, as plain loops in double; also the path of double tensors.
#pragma once

#include "krait/kernels/matmul.h"
#include "krait/kernels/rows.h"

namespace krait::kernels::reference {

// Arguments as those of kernels::dense_product. Any strides.
void dense_product(GemmForm form, Rows<const double> a, Rows<const double> b, Rows<double> c);

void bias_backward(Rows<const double> dy, double* dbias);

}  // namespace krait::kernels::reference
