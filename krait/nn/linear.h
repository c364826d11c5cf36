// Dense layers under autograd. Products go through kernels/dense_product (oneDNN), not through libtorch's BLAS.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace krait::nn {

using at::Tensor;

// y[..., N] = x[..., K] W[N, K]^T + bias[N]; `bias` may be undefined.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

// The columns of x[..., C] in parts of these sizes, which add up to C: views, one after the other. Their gradients are
// joined in one piece, where libtorch would add up a zero-padded matrix for each.
std::vector<Tensor> split_columns(const Tensor& x, const std::vector<std::int64_t>& sizes);

// Whether products of training round their operands to bf16 (accumulated in f32); off at first, and false where this
// CPU has no such product. Not while a step runs.
void set_bf16_products(bool wanted);
bool bf16_products();

}  // namespace krait::nn
