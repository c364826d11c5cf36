#include "krait/nn/linear.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <numeric>

#include "krait/kernels/dense_product.h"
#include "krait/kernels/reference/dense_product.h"
#include "krait/kernels/row_grain.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

std::atomic<bool> round_to_bf16 = false;

// out = op(a) op(b), or added to it. All [rows, columns] with contiguous rows.
void multiply(kernels::GemmForm form, const Tensor& a, const Tensor& b, const Tensor& out) {
  if (out.scalar_type() == at::kDouble) {
    kernels::reference::dense_product(form, rows_in<double>(a), rows_in<double>(b), rows_out<double>(out));
    return;
  }
  kernels::dense_product(ComputePool(), form, rows_in<float>(a), rows_in<float>(b), rows_out<float>(out),
                         bf16_products() ? kernels::ProductPrecision::kBF16 : kernels::ProductPrecision::kF32);
}

class Linear : public torch::autograd::Function<Linear> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const Tensor rows = as_rows(x), block = as_block(weight), offset = as_block(bias);
    Tensor y = new_rows(x, rows.size(0), weight.size(0));
    multiply({.b_transposed = true}, rows, block, y);
    if (offset.defined()) y.add_(offset);
    context->save_for_backward({rows, block});
    context->saved_data["shape"] = x.sizes().vec();
    context->saved_data["bias"] = offset.defined();
    return y.view(shape_with_columns(x, weight.size(0)));
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const Tensor dy = as_rows(upstream[0]);
    Tensor dx, d_weight, d_bias;
    if (context->needs_input_grad(0)) {
      dx = new_rows(x, x.size(0), x.size(1));
      multiply({}, dy, weight, dx);
      dx = dx.view(context->saved_data["shape"].toIntVector());
    }
    if (context->needs_input_grad(1)) {
      d_weight = at::empty_like(weight);
      multiply({.a_transposed = true}, dy, x, d_weight);
    }
    if (context->saved_data["bias"].toBool()) d_bias = dy.sum(0);
    return {dx, d_weight, d_bias};
  }
};

class SplitColumns : public torch::autograd::Function<SplitColumns> {
 public:
  static tensor_list forward(AutogradContext*, const Tensor& x, const std::vector<std::int64_t>& sizes) {
    tensor_list parts;
    std::int64_t begin = 0;
    for (const std::int64_t size : sizes) {
      parts.push_back(x.narrow(-1, begin, size));
      begin += size;
    }
    return parts;
  }

  // Side by side again, by rows on all threads, where libtorch would copy on one.
  static tensor_list backward(AutogradContext*, tensor_list upstream) {
    tensor_list parts;
    std::int64_t columns = 0;
    for (const Tensor& part : upstream) {
      parts.push_back(as_rows(part));
      columns += part.size(-1);
    }
    const Tensor joined = new_rows(upstream[0], parts[0].size(0), columns);
    with_real(joined, [&](auto real) {
      using Real = decltype(real);
      const auto out = rows_out<Real>(joined);
      const ComputePool turn;
      ThreadPool& pool = turn;
      pool.parallel_for(out.rows, kernels::rows_per_task(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
          Real* to = out.row(row);
          for (const Tensor& part : parts) {
            const auto from = rows_in<Real>(part);
            to = std::copy_n(from.row(row), from.columns, to);
          }
        }
      });
    });
    return {joined.view(shape_with_columns(upstream[0], columns)), Tensor()};
  }
};

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_real(x, "x of a linear layer");
  check_same_type(weight, x, "the weight of a linear layer");
  check_same_type(bias, x, "the bias of a linear layer");
  if (weight.dim() != 2) check_shape(weight, {-1, -1}, "the weight of a linear layer");
  check_columns(x, weight.size(1), "x of a linear layer");
  check_shape(bias, {weight.size(0)}, "the bias of a linear layer");
  return Linear::apply(x, weight, or_none(bias));
}

std::vector<Tensor> split_columns(const Tensor& x, const std::vector<std::int64_t>& sizes) {
  check_columns(x, std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}), "a matrix to be split");
  return SplitColumns::apply(x, sizes);
}

void set_bf16_products(bool wanted) { round_to_bf16 = wanted && kernels::gemm_bf16_available(); }
bool bf16_products() { return round_to_bf16; }

}  // namespace krait::nn
