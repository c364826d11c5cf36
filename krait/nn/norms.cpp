#include "krait/nn/norms.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/norm_backward.h"
#include "krait/kernels/reference/elementwise.h"
#include "krait/kernels/reference/norm_backward.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

Tensor zeros_if(bool wanted, const Tensor& like) { return wanted ? at::zeros_like(like) : Tensor(); }

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, double epsilon) {
    const Tensor rows = as_rows(x), scale = as_block(weight);
    Tensor y = new_rows(x, rows.size(0), rows.size(1));
    if (x.scalar_type() == at::kDouble) {
      kernels::reference::rms_norm<double>(rows_in<double>(rows), values_of<double>(scale), epsilon,
                                           rows_out<double>(y));
    } else {
      kernels::rms_norm(ComputePool(), rows_in<float>(rows), values_of<float>(scale), static_cast<float>(epsilon),
                        rows_out<float>(y));
    }
    context->save_for_backward({rows, scale});
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["shape"] = x.sizes().vec();
    return y.view(x.sizes());
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const double epsilon = context->saved_data["epsilon"].toDouble();
    const Tensor dy = as_rows(upstream[0]);
    Tensor dx = new_rows(x, x.size(0), x.size(1));
    Tensor d_weight = zeros_if(weight.defined() && context->needs_input_grad(1), weight);
    if (x.scalar_type() == at::kDouble) {
      kernels::reference::rms_norm_backward(rows_in<double>(x), values_of<double>(weight), epsilon, rows_in<double>(dy),
                                            {}, {.x = rows_out<double>(dx), .weight = values_of<double>(d_weight)});
    } else {
      kernels::rms_norm_backward(ComputePool(), rows_in<float>(x), values_of<float>(weight),
                                 static_cast<float>(epsilon), rows_in<float>(dy),
                                 {.x = rows_out<float>(dx), .weight = values_of<float>(d_weight)});
    }
    return {dx.view(context->saved_data["shape"].toIntVector()), d_weight, Tensor()};
  }
};

class AddRmsNorm : public torch::autograd::Function<AddRmsNorm> {
 public:
  static tensor_list forward(AutogradContext* context, const Tensor& residual, const Tensor& delta,
                             const Tensor& weight, double epsilon) {
    context->set_materialize_grads(false);
    const Tensor added = as_rows(delta), scale = as_block(weight);
    Tensor sum = as_rows(residual).clone(at::MemoryFormat::Contiguous);
    Tensor y = new_rows(sum, sum.size(0), sum.size(1));
    if (sum.scalar_type() == at::kDouble) {
      sum.add_(added);
      kernels::reference::rms_norm<double>(rows_in<double>(sum), values_of<double>(scale), epsilon,
                                           rows_out<double>(y));
    } else {
      kernels::add_rms_norm(ComputePool(), rows_out<float>(sum), rows_in<float>(added), values_of<float>(scale),
                            static_cast<float>(epsilon), rows_out<float>(y));
    }
    context->save_for_backward({sum, scale});
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["shape"] = residual.sizes().vec();
    return {sum.view(residual.sizes()), y.view(residual.sizes())};
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &sum = saved[0], &weight = saved[1];
    const double epsilon = context->saved_data["epsilon"].toDouble();
    const Tensor d_sum = as_rows(upstream[0]);
    Tensor d_weight = zeros_if(weight.defined() && context->needs_input_grad(2), weight);
    if (!upstream[1].defined()) return {upstream[0], upstream[0], d_weight, Tensor()};
    const Tensor dy = as_rows(upstream[1]);
    Tensor dx = new_rows(sum, sum.size(0), sum.size(1));
    if (sum.scalar_type() == at::kDouble) {
      kernels::reference::rms_norm_backward(rows_in<double>(sum), values_of<double>(weight), epsilon,
                                            rows_in<double>(dy), rows_in<double>(d_sum),
                                            {.x = rows_out<double>(dx), .weight = values_of<double>(d_weight)});
    } else if (d_sum.defined()) {
      kernels::add_rms_norm_backward(ComputePool(), rows_in<float>(sum), values_of<float>(weight),
                                     static_cast<float>(epsilon), rows_in<float>(dy), rows_in<float>(d_sum),
                                     {.x = rows_out<float>(dx), .weight = values_of<float>(d_weight)});
    } else {
      kernels::rms_norm_backward(ComputePool(), rows_in<float>(sum), values_of<float>(weight),
                                 static_cast<float>(epsilon), rows_in<float>(dy),
                                 {.x = rows_out<float>(dx), .weight = values_of<float>(d_weight)});
    }
    const Tensor both = dx.view(context->saved_data["shape"].toIntVector());
    return {both, both, d_weight, Tensor()};
  }
};

class GatedRmsNorm : public torch::autograd::Function<GatedRmsNorm> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& gate, const Tensor& weight,
                        double epsilon, std::int64_t groups, bool norm_first) {
    const Tensor rows = as_rows(x), gates = as_rows(gate), scale = as_block(weight);
    Tensor y = new_rows(x, rows.size(0), rows.size(1));
    if (x.scalar_type() == at::kDouble) {
      kernels::reference::gated_rms_norm<double>(rows_in<double>(rows), rows_in<double>(gates),
                                                 values_of<double>(scale), epsilon, groups, order_of(norm_first),
                                                 rows_out<double>(y));
    } else {
      kernels::gated_rms_norm(ComputePool(), rows_in<float>(rows), rows_in<float>(gates), values_of<float>(scale),
                              static_cast<float>(epsilon), groups, order_of(norm_first), rows_out<float>(y));
    }
    context->save_for_backward({rows, gates, scale});
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["groups"] = groups;
    context->saved_data["norm_first"] = norm_first;
    context->saved_data["shape"] = x.sizes().vec();
    return y.view(x.sizes());
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &gate = saved[1], &weight = saved[2];
    const double epsilon = context->saved_data["epsilon"].toDouble();
    const std::int64_t groups = context->saved_data["groups"].toInt();
    const kernels::GateOrder order = order_of(context->saved_data["norm_first"].toBool());
    const Tensor dy = as_rows(upstream[0]);
    Tensor dx = new_rows(x, x.size(0), x.size(1)), d_gate = new_rows(x, x.size(0), x.size(1));
    Tensor d_weight = zeros_if(weight.defined() && context->needs_input_grad(2), weight);
    if (x.scalar_type() == at::kDouble) {
      kernels::reference::gated_rms_norm_backward(
          rows_in<double>(x), rows_in<double>(gate), values_of<double>(weight), epsilon, groups, order,
          rows_in<double>(dy),
          {.x = rows_out<double>(dx), .gate = rows_out<double>(d_gate), .weight = values_of<double>(d_weight)});
    } else {
      kernels::gated_rms_norm_backward(
          ComputePool(), rows_in<float>(x), rows_in<float>(gate), values_of<float>(weight), static_cast<float>(epsilon),
          groups, order, rows_in<float>(dy),
          {.x = rows_out<float>(dx), .gate = rows_out<float>(d_gate), .weight = values_of<float>(d_weight)});
    }
    const auto shape = context->saved_data["shape"].toIntVector();
    return {dx.view(shape), d_gate.view(shape), d_weight, Tensor(), Tensor(), Tensor()};
  }

 private:
  static kernels::GateOrder order_of(bool norm_first) {
    return norm_first ? kernels::GateOrder::kNormThenGate : kernels::GateOrder::kGateThenNorm;
  }
};

void check_norm(const Tensor& x, const Tensor& weight) {
  check_real(x, "x of a norm");
  check_same_type(weight, x, "the weight of a norm");
  if (x.dim() == 0) check_columns(x, 1, "x of a norm");
  check_shape(weight, {x.size(-1)}, "the weight of a norm");
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  check_norm(x, weight);
  return RmsNorm::apply(x, or_none(weight), epsilon);
}

AddedNorm add_rms_norm(const Tensor& residual, const Tensor& delta, const Tensor& weight, double epsilon) {
  check_norm(residual, weight);
  check_same_type(delta, residual, "what is added to a residual");
  check_shape(delta, residual.sizes(), "what is added to a residual");
  const tensor_list results = AddRmsNorm::apply(residual, delta, or_none(weight), epsilon);
  return {results[0], results[1]};
}

Tensor gated_rms_norm(const Tensor& x, const Tensor& gate, const Tensor& weight, double epsilon, std::int64_t groups,
                      kernels::GateOrder order) {
  check_norm(x, weight);
  check_same_type(gate, x, "the gate of a norm");
  check_shape(gate, x.sizes(), "the gate of a norm");
  if (groups < 1 || x.size(-1) % groups != 0) {
    throw UserError(fmt::format("a norm of {} groups over {} columns", groups, x.size(-1)),
                    "the columns are cut into equal groups");
  }
  return GatedRmsNorm::apply(x, gate, or_none(weight), epsilon, groups, order == kernels::GateOrder::kNormThenGate);
}

}  // namespace krait::nn
