// krait's kernels as operators of torch, for Python and for whoever else loads operators at run time:
//   torch.ops.load_library("…/libkrait_operators.so");  y, state = torch.ops.krait.selective_scan(x, dt, A, B, C)
// Sequences stand as [B, T, …]. `segments` [B, T] int64 are the numbers of packed documents: nothing passes from one
// number to the next. Gradients flow as from any other operator. States are those after each segment, in order.
#include <torch/library.h>

#include "krait/nn/conv1d_causal.h"
#include "krait/nn/linear.h"
#include "krait/nn/norms.h"
#include "krait/nn/scan_selective.h"
#include "krait/nn/scan_ssd.h"

namespace krait::nn {
namespace {

using MaybeTensor = c10::optional<Tensor>;
using Two = std::tuple<Tensor, Tensor>;

Tensor or_undefined(const MaybeTensor& tensor) { return tensor.value_or(Tensor()); }

// What is wrong with the arguments becomes Python's ValueError.
template <class Call>
auto checked(const Call& call) {
  try {
    return call();
  } catch (const UserError& wrong) {
    TORCH_CHECK_VALUE(false, wrong.what(), ": ", wrong.hint());
  }
}

Segments segments_of(const Tensor& x, const MaybeTensor& numbers) {
  if (x.dim() != 3) {
    throw UserError(fmt::format("x has shape [{}]", fmt::join(x.sizes(), ", ")), "sequences stand as [B, T, channels]");
  }
  if (!numbers.has_value()) return equal_segments(x.size(0), x.size(1));
  check_shape(*numbers, {x.size(0), x.size(1)}, "the numbers of the segments");
  const Tensor whole = numbers->to(at::kLong).contiguous();
  return segments_of_numbers(whole.data_ptr<std::int64_t>(), x.size(0), x.size(1));
}

Two selective_scan_operator(const Tensor& x, const Tensor& dt, const Tensor& a, const Tensor& b, const Tensor& c,
                            const MaybeTensor& d, const MaybeTensor& z, const MaybeTensor& dt_bias, bool dt_softplus,
                            const MaybeTensor& state, const MaybeTensor& segments) {
  return checked([&] {
    const ScanResult result = selective_scan({.x = x,
                                              .dt = dt,
                                              .a = a,
                                              .b = b,
                                              .c = c,
                                              .d = or_undefined(d),
                                              .z = or_undefined(z),
                                              .dt_bias = or_undefined(dt_bias),
                                              .state = or_undefined(state),
                                              .dt_softplus = dt_softplus},
                                             segments_of(x, segments));
    return Two(result.y, result.state);
  });
}

Two ssd_scan_operator(const Tensor& x, const Tensor& dt, const Tensor& a, const Tensor& b, const Tensor& c,
                      const MaybeTensor& d, const MaybeTensor& dt_bias, std::int64_t groups, double dt_low,
                      double dt_high, const MaybeTensor& state, const MaybeTensor& segments) {
  return checked([&] {
    const ScanResult result = ssd_scan({.x = x,
                                        .dt = dt,
                                        .a = a,
                                        .b = b,
                                        .c = c,
                                        .d = or_undefined(d),
                                        .dt_bias = or_undefined(dt_bias),
                                        .state = or_undefined(state),
                                        .groups = groups,
                                        .dt_low = dt_low,
                                        .dt_high = dt_high},
                                       segments_of(x, segments));
    return Two(result.y, result.state);
  });
}

Two conv1d_causal_operator(const Tensor& x, const Tensor& weight, const MaybeTensor& bias, bool silu,
                           const MaybeTensor& window, const MaybeTensor& segments) {
  return checked([&] {
    const ConvResult result =
        conv1d_causal(x, weight, or_undefined(bias), segments_of(x, segments), silu, or_undefined(window));
    return Two(result.y, result.window);
  });
}

Tensor linear_operator(const Tensor& x, const Tensor& weight, const MaybeTensor& bias) {
  return checked([&] { return nn::linear(x, weight, or_undefined(bias)); });
}

Tensor rms_norm_operator(const Tensor& x, const MaybeTensor& weight, double epsilon) {
  return checked([&] { return rms_norm(x, or_undefined(weight), epsilon); });
}

Tensor gated_rms_norm_operator(const Tensor& x, const Tensor& gate, const MaybeTensor& weight, double epsilon,
                               std::int64_t groups, bool norm_before_gate) {
  return checked([&] {
    return gated_rms_norm(x, gate, or_undefined(weight), epsilon, groups,
                          norm_before_gate ? kernels::GateOrder::kNormThenGate : kernels::GateOrder::kGateThenNorm);
  });
}

}  // namespace

// Autograd is inside the functions, so one implementation serves tensors with and without gradients.
TORCH_LIBRARY(krait, library) {
  library.def(
      "selective_scan(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? z=None, "
      "Tensor? dt_bias=None, bool dt_softplus=True, Tensor? state=None, Tensor? segments=None) -> (Tensor, Tensor)",
      selective_scan_operator);
  library.def(
      "ssd_scan(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? dt_bias=None, "
      "int groups=1, float dt_low=0.0, float dt_high=1e38, Tensor? state=None, Tensor? segments=None) "
      "-> (Tensor, Tensor)",
      ssd_scan_operator);
  library.def(
      "conv1d_causal(Tensor x, Tensor weight, Tensor? bias=None, bool silu=True, Tensor? window=None, "
      "Tensor? segments=None) -> (Tensor, Tensor)",
      conv1d_causal_operator);
  library.def("linear(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor", linear_operator);
  library.def("rms_norm(Tensor x, Tensor? weight=None, float epsilon=1e-5) -> Tensor", rms_norm_operator);
  library.def(
      "gated_rms_norm(Tensor x, Tensor gate, Tensor? weight=None, float epsilon=1e-5, int groups=1, "
      "bool norm_before_gate=False) -> Tensor",
      gated_rms_norm_operator);
}

}  // namespace krait::nn
