#include "krait/nn/embedding.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/embedding_backward.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/reference/token_loss.h"
#include "krait/nn/compute_threads.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class Embed : public torch::autograd::Function<Embed> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& table, const Tensor& ids) {
    const Tensor block = as_block(table);
    Tensor y = new_rows(table, ids.size(0), table.size(1));
    const auto* rows = ids.data_ptr<std::int32_t>();
    if (table.scalar_type() == at::kDouble) {
      kernels::reference::embed(rows_in<double>(block), rows, rows_out<double>(y));
    } else {
      const kernels::WeightMatrix weight{.rows = block.size(0),
                                         .columns = block.size(1),
                                         .data = reinterpret_cast<const std::byte*>(block.data_ptr<float>())};
      kernels::embed(ComputePool(), weight, rows, rows_out<float>(y));
    }
    context->save_for_backward({ids});
    context->saved_data["rows"] = table.size(0);
    return y;
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const Tensor ids = context->get_saved_variables()[0], dy = as_rows(upstream[0]);
    Tensor d_table = at::zeros({context->saved_data["rows"].toInt(), dy.size(1)}, dy.options());
    const auto* rows = ids.data_ptr<std::int32_t>();
    if (dy.scalar_type() == at::kDouble) {
      kernels::reference::embedding_backward(rows, rows_in<double>(dy), rows_out<double>(d_table));
    } else {
      kernels::embedding_backward(ComputePool(), rows, rows_in<float>(dy), rows_out<float>(d_table));
    }
    return {d_table, Tensor()};
  }
};

}  // namespace

Tensor embed(const Tensor& table, std::span<const std::int32_t> ids) {
  check_real(table, "a table of embeddings");
  if (table.dim() != 2) check_shape(table, {-1, -1}, "a table of embeddings");
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= table.size(0)) {
      throw UserError(fmt::format("token {} of a table of {}", id, table.size(0)), "tokens are rows of the table");
    }
  }
  Tensor rows = at::empty({static_cast<std::int64_t>(ids.size())}, at::kInt);
  std::copy(ids.begin(), ids.end(), rows.data_ptr<std::int32_t>());
  return Embed::apply(table, rows);
}

}  // namespace krait::nn
