#include "krait/nn/s4d_kernel.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/reference/s4d_kernel.h"
#include "krait/kernels/s4d_kernel_backward.h"
#include "krait/nn/compute_threads.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// In the order of apply().
enum Place : std::uint8_t { kLogDt, kLogDecay, kFrequency, kB, kC, kInputs };

template <class Real>
kernels::S4dKernelOf<Real> parameters_of(const tensor_list& in, bool bilinear, double rate) {
  return {.channels = in[kC].size(1),
          .states = in[kC].size(2),
          .sets = in[kLogDecay].size(0),
          .copies = in[kC].size(0),
          .method = bilinear ? kernels::Discretisation::kBilinear : kernels::Discretisation::kZeroOrderHold,
          .rate = rate,
          .dt_per_state = in[kLogDt].dim() == 2,
          .log_dt = values_of<Real>(in[kLogDt]),
          .log_decay = values_of<Real>(in[kLogDecay]),
          .frequency = values_of<Real>(in[kFrequency]),
          .b = values_of<Real>(in[kB]),
          .c = values_of<Real>(in[kC])};
}

class S4dKernel : public torch::autograd::Function<S4dKernel> {
 public:
  static Tensor forward(AutogradContext* context, at::TensorList tensors, std::int64_t length, bool bilinear,
                        double rate) {
    tensor_list in;
    for (const Tensor& tensor : tensors) in.push_back(as_block(tensor));
    const Tensor kernel = new_rows(in[kC], in[kC].size(0) * in[kC].size(1), length);
    if (kernel.scalar_type() == at::kDouble) {
      kernels::reference::s4d_kernel(parameters_of<double>(in, bilinear, rate), rows_out<double>(kernel));
    } else {
      kernels::s4d_kernel(ComputePool(), parameters_of<float>(in, bilinear, rate), rows_out<float>(kernel));
    }
    context->save_for_backward(in);
    context->saved_data["bilinear"] = bilinear;
    context->saved_data["rate"] = rate;
    return kernel;
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const bool bilinear = context->saved_data["bilinear"].toBool();
    const double rate = context->saved_data["rate"].toDouble();
    const Tensor d_kernel = as_rows(upstream[0]);
    tensor_list to(kInputs + 3);  // nothing for the length, the method and the rate
    for (std::size_t i = 0; i < kInputs; ++i) {
      if (saved[i].defined()) to[i] = at::zeros_like(saved[i]);
    }
    with_real(d_kernel, [&](auto real) {
      using Real = decltype(real);
      const auto parameters = parameters_of<Real>(saved, bilinear, rate);
      const kernels::S4dKernelGradientsOf<Real> gradients = {.log_dt = values_of<Real>(to[kLogDt]),
                                                             .log_decay = values_of<Real>(to[kLogDecay]),
                                                             .frequency = values_of<Real>(to[kFrequency]),
                                                             .b = values_of<Real>(to[kB]),
                                                             .c = values_of<Real>(to[kC])};
      if constexpr (std::is_same_v<Real, double>) {
        kernels::reference::s4d_kernel_backward(parameters, rows_in<double>(d_kernel), gradients);
      } else {
        kernels::s4d_kernel_backward(ComputePool(), parameters, rows_in<float>(d_kernel), gradients);
      }
    });
    return to;
  }
};

}  // namespace

Tensor s4d_kernel(const S4dKernelInputs& in, std::int64_t length) {
  check_real(in.c, "C of S4D");
  if (in.c.dim() != 4 || in.c.numel() == 0 || in.c.size(3) != 2) {
    throw UserError(fmt::format("C of S4D has shape [{}]", fmt::join(in.c.sizes(), ", ")),
                    "its shape must be [copies, channels, states, 2]");
  }
  const std::int64_t channels = in.c.size(1), states = in.c.size(2);
  for (const auto& [tensor, name] : {std::pair(&in.log_dt, "log dt of S4D"),
                                     {&in.log_decay, "the decays of S4D"},
                                     {&in.frequency, "the frequencies of S4D"}}) {
    if (!tensor->defined()) throw UserError(fmt::format("no {}", name), "only B may be undefined");
    check_same_type(*tensor, in.c, name);
  }
  check_same_type(in.b, in.c, "B of S4D");
  if (in.log_dt.dim() == 1) check_shape(in.log_dt, {channels}, "log dt of S4D");
  if (in.log_dt.dim() != 1) check_shape(in.log_dt, {channels, states}, "log dt of S4D");
  const std::int64_t sets = in.log_decay.dim() == 0 ? 0 : in.log_decay.size(0);
  if (sets == 0 || channels % sets != 0) {
    throw UserError(fmt::format("{} sets of decays for {} channels", sets, channels), "sets divide the channels");
  }
  check_shape(in.log_decay, {sets, states}, "the decays of S4D");
  check_shape(in.frequency, {sets, states}, "the frequencies of S4D");
  check_shape(in.b, {sets, states, 2}, "B of S4D");
  if (length < 0) throw UserError(fmt::format("a kernel of length {}", length), "it is at least 0");
  const tensor_list tensors = {in.log_dt, in.log_decay, in.frequency, or_none(in.b), in.c};
  return S4dKernel::apply(at::TensorList(tensors), length, in.method == kernels::Discretisation::kBilinear, in.rate);
}

}  // namespace krait::nn
