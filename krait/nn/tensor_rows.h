// libtorch's tensors as the matrices of rows that kernels take (kernels/rows.h). Activations have any leading
// dimensions, [..., C]; the kernels see [M, C] with M their product. float runs on the vectorised kernels, double on
// the plain loops of kernels/reference, by which gradients are checked.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/kernels/rows.h"

namespace krait::nn {

using at::Tensor;

// What a torch::autograd::Function is applied to in the place of an undefined tensor, which libtorch (1.13) does not
// take there. as_rows() and as_block() make it undefined again.
Tensor or_none(const Tensor& tensor);

// A matrix [M, C] whose rows are contiguous each, the tensor itself where it is one.
Tensor as_rows(const Tensor& tensor);

// Like it, contiguous throughout: for parameters and states.
Tensor as_block(const Tensor& tensor);

// [M, C] of the dtype of `like`, content undefined.
Tensor new_rows(const Tensor& like, std::int64_t rows, std::int64_t columns);

// The shape of `tensor` with another last dimension: what goes with its rows.
std::vector<std::int64_t> shape_with_columns(const Tensor& tensor, std::int64_t columns);

// Views of what as_rows() and new_rows() give. An undefined tensor is an empty matrix.
template <class Real>
kernels::Rows<const Real> rows_in(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.data_ptr<Real>(), tensor.size(0), tensor.size(1), tensor.stride(0)};
}
template <class Real>
kernels::Rows<Real> rows_out(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.data_ptr<Real>(), tensor.size(0), tensor.size(1), tensor.stride(0)};
}
// Of a contiguous tensor; null where it is undefined.
template <class Real>
Real* values_of(const Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<Real>() : nullptr;
}

// Throws UserError that names `what`, unless the tensor is on the CPU and float or double as `like` is.
void check_real(const Tensor& tensor, std::string_view what);
void check_same_type(const Tensor& tensor, const Tensor& like, std::string_view what);
// Unless its last dimension is `columns` / its shape is `shape`.
void check_columns(const Tensor& tensor, std::int64_t columns, std::string_view what);
void check_shape(const Tensor& tensor, at::IntArrayRef shape, std::string_view what);

// body(float()) or body(double()), by the tensor's dtype.
template <class Body>
decltype(auto) with_real(const Tensor& tensor, Body&& body) {
  if (tensor.scalar_type() == at::kFloat) return body(float());
  return body(double());
}

}  // namespace krait::nn
