#include "krait/nn/tensor_rows.h"

#include <ATen/Functions.h>

namespace krait::nn {

namespace {

const Tensor& none() {
  static const Tensor instance = at::empty({0});
  return instance;
}

bool is_none(const Tensor& tensor) { return !tensor.defined() || tensor.is_same(none()); }

}  // namespace

Tensor or_none(const Tensor& tensor) { return tensor.defined() ? tensor : none(); }

Tensor as_rows(const Tensor& tensor) {
  if (is_none(tensor)) return {};
  const std::int64_t columns = tensor.dim() == 0 ? 1 : tensor.size(-1);
  const Tensor rows =
      tensor.dim() == 2 ? tensor : tensor.reshape({columns == 0 ? 0 : tensor.numel() / columns, columns});
  return rows.size(0) <= 1 || rows.stride(1) == 1 || columns <= 1 ? rows : rows.contiguous();
}

Tensor as_block(const Tensor& tensor) { return is_none(tensor) ? Tensor() : tensor.contiguous(); }

Tensor new_rows(const Tensor& like, std::int64_t rows, std::int64_t columns) {
  return at::empty({rows, columns}, like.options());
}

std::vector<std::int64_t> shape_with_columns(const Tensor& tensor, std::int64_t columns) {
  std::vector<std::int64_t> shape = tensor.sizes().vec();
  shape.back() = columns;
  return shape;
}

void check_real(const Tensor& tensor, std::string_view what) {
  if (!tensor.device().is_cpu() || (tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kDouble)) {
    throw UserError(fmt::format("{} is {} on {}", what, c10::toString(tensor.scalar_type()), tensor.device().str()),
                    "krait trains in float32 (or float64, slowly) on the CPU");
  }
}

void check_same_type(const Tensor& tensor, const Tensor& like, std::string_view what) {
  if (!tensor.defined()) return;
  if (tensor.scalar_type() != like.scalar_type() || !tensor.device().is_cpu()) {
    throw UserError(
        fmt::format("{} is {} beside {}", what, c10::toString(tensor.scalar_type()), c10::toString(like.scalar_type())),
        "all tensors of an operation have one dtype");
  }
}

void check_columns(const Tensor& tensor, std::int64_t columns, std::string_view what) {
  if (!tensor.defined()) return;
  if (tensor.dim() == 0 || tensor.size(-1) != columns) {
    throw UserError(fmt::format("{} has shape [{}]", what, fmt::join(tensor.sizes(), ", ")),
                    fmt::format("its last dimension must be {}", columns));
  }
}

void check_shape(const Tensor& tensor, at::IntArrayRef shape, std::string_view what) {
  if (!tensor.defined()) return;
  if (tensor.sizes() != shape) {
    throw UserError(fmt::format("{} has shape [{}]", what, fmt::join(tensor.sizes(), ", ")),
                    fmt::format("its shape must be [{}]", fmt::join(shape, ", ")));
  }
}

}  // namespace krait::nn
