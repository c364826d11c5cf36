#include "krait/nn/s4_kernel.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/reference/s4_kernel.h"
#include "krait/kernels/s4_kernel_backward.h"
#include "krait/nn/compute_threads.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// In the order of apply().
enum Place : std::uint8_t { kLogDt, kLogDecay, kFrequency, kP, kB, kC, kInputs };

template <class Real>
kernels::S4KernelOf<Real> parameters_of(const tensor_list& in, double rate) {
  return {.channels = in[kC].size(1),
          .states = in[kC].size(2),
          .sets = in[kLogDecay].size(0),
          .copies = in[kC].size(0),
          .rank = in[kP].size(0),
          .rate = rate,
          .log_dt = values_of<Real>(in[kLogDt]),
          .log_decay = values_of<Real>(in[kLogDecay]),
          .frequency = values_of<Real>(in[kFrequency]),
          .p = values_of<Real>(in[kP]),
          .b = values_of<Real>(in[kB]),
          .c = values_of<Real>(in[kC])};
}

class S4Kernel : public torch::autograd::Function<S4Kernel> {
 public:
  static Tensor forward(AutogradContext* context, at::TensorList tensors, std::int64_t length, double rate) {
    tensor_list in;
    for (const Tensor& tensor : tensors) in.push_back(as_block(tensor));
    const Tensor kernel = new_rows(in[kC], in[kC].size(0) * in[kC].size(1), length);
    if (kernel.scalar_type() == at::kDouble) {
      kernels::reference::s4_kernel(parameters_of<double>(in, rate), rows_out<double>(kernel));
    } else {
      kernels::s4_kernel(ComputePool(), parameters_of<float>(in, rate), rows_out<float>(kernel));
    }
    context->save_for_backward(in);
    context->saved_data["rate"] = rate;
    return kernel;
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const double rate = context->saved_data["rate"].toDouble();
    const Tensor d_kernel = as_rows(upstream[0]);
    tensor_list to(kInputs + 2);  // nothing for the length and the rate
    for (std::size_t i = 0; i < kInputs; ++i) to[i] = at::zeros_like(saved[i]);
    with_real(d_kernel, [&](auto real) {
      using Real = decltype(real);
      const auto parameters = parameters_of<Real>(saved, rate);
      const kernels::S4KernelGradientsOf<Real> gradients = {.log_dt = values_of<Real>(to[kLogDt]),
                                                            .log_decay = values_of<Real>(to[kLogDecay]),
                                                            .frequency = values_of<Real>(to[kFrequency]),
                                                            .p = values_of<Real>(to[kP]),
                                                            .b = values_of<Real>(to[kB]),
                                                            .c = values_of<Real>(to[kC])};
      if constexpr (std::is_same_v<Real, double>) {
        kernels::reference::s4_kernel_backward(parameters, rows_in<double>(d_kernel), gradients);
      } else {
        kernels::s4_kernel_backward(ComputePool(), parameters, rows_in<float>(d_kernel), gradients);
      }
    });
    return to;
  }
};

}  // namespace

Tensor s4_kernel(const S4KernelInputs& in, std::int64_t length) {
  check_real(in.c, "C of S4");
  if (in.c.dim() != 4 || in.c.numel() == 0 || in.c.size(3) != 2) {
    throw UserError(fmt::format("C of S4 has shape [{}]", fmt::join(in.c.sizes(), ", ")),
                    "its shape must be [copies, channels, states, 2]");
  }
  for (const auto& [tensor, name] : {std::pair(&in.log_dt, "log dt of S4"),
                                     {&in.log_decay, "the decays of S4"},
                                     {&in.frequency, "the frequencies of S4"},
                                     {&in.p, "P of S4"},
                                     {&in.b, "B of S4"}}) {
    if (!tensor->defined()) throw UserError(fmt::format("no {}", name), "S4 has all of its parameters");
    check_same_type(*tensor, in.c, name);
  }
  const std::int64_t channels = in.c.size(1), states = in.c.size(2);
  const std::int64_t sets = in.log_decay.dim() == 0 ? 0 : in.log_decay.size(0);
  if (sets == 0 || channels % sets != 0) {
    throw UserError(fmt::format("{} sets of decays for {} channels", sets, channels), "sets divide the channels");
  }
  const std::int64_t rank = in.p.dim() == 0 ? -1 : in.p.size(0);
  if (rank < 0 || rank > 2) throw UserError(fmt::format("P of S4 with a rank of {}", rank), "it is 0, 1 or 2");
  check_shape(in.log_dt, {channels}, "log dt of S4");
  check_shape(in.log_decay, {sets, states}, "the decays of S4");
  check_shape(in.frequency, {sets, states}, "the frequencies of S4");
  check_shape(in.p, {rank, sets, states, 2}, "P of S4");
  check_shape(in.b, {sets, states, 2}, "B of S4");
  if (length < 1) throw UserError(fmt::format("a kernel of length {}", length), "it is at least 1");
  const tensor_list tensors = {in.log_dt, in.log_decay, in.frequency, in.p, in.b, in.c};
  return S4Kernel::apply(at::TensorList(tensors), length, in.rate);
}

}  // namespace krait::nn
