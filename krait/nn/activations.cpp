#include "krait/nn/activations.h"

#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/activation.h"
#include "krait/kernels/activation_backward.h"
#include "krait/kernels/reference/activation_backward.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class SiluGate : public torch::autograd::Function<SiluGate> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& gate) {
    const Tensor rows = as_rows(x), gates = as_rows(gate);
    Tensor y = new_rows(x, rows.size(0), rows.size(1));
    if (x.scalar_type() == at::kDouble) {
      kernels::reference::gate_by(kernels::reference::silu, rows_in<double>(rows), rows_in<double>(gates),
                                  rows_out<double>(y));
    } else {
      kernels::silu_gate(ComputePool(), rows_in<float>(rows), rows_in<float>(gates), rows_out<float>(y));
    }
    context->save_for_backward({rows, gates});
    context->saved_data["shape"] = x.sizes().vec();
    return y.view(x.sizes());
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &gate = saved[1], dy = as_rows(upstream[0]);
    Tensor dx = new_rows(x, x.size(0), x.size(1)), d_gate = new_rows(x, x.size(0), x.size(1));
    if (x.scalar_type() == at::kDouble) {
      kernels::reference::gate_by_backward(kernels::reference::silu, kernels::reference::silu_slope, rows_in<double>(x),
                                           rows_in<double>(gate), rows_in<double>(dy), rows_out<double>(dx),
                                           rows_out<double>(d_gate));
    } else {
      kernels::silu_gate_backward(ComputePool(), rows_in<float>(x), rows_in<float>(gate), rows_in<float>(dy),
                                  {.x = rows_out<float>(dx), .gate = rows_out<float>(d_gate)});
    }
    const auto shape = context->saved_data["shape"].toIntVector();
    return {dx.view(shape), d_gate.view(shape)};
  }
};

}  // namespace

Tensor silu_gate(const Tensor& x, const Tensor& gate) {
  check_real(x, "x of a gate");
  check_same_type(gate, x, "a gate");
  check_shape(gate, x.sizes(), "a gate");
  return SiluGate::apply(x, gate);
}

}  // namespace krait::nn
