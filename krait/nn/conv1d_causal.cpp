#include "krait/nn/conv1d_causal.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/conv1d_causal_backward.h"
#include "krait/kernels/reference/conv1d_causal_backward.h"
#include "krait/kernels/reference/elementwise.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

template <class Real>
kernels::Conv1dCausalOf<Real> kernel_of(const Tensor& weight, const Tensor& bias, bool silu) {
  return {.width = weight.size(0), .weight = values_of<Real>(weight), .bias = values_of<Real>(bias), .silu = silu};
}

void forward_rows(const kernels::Conv1dCausal& conv, const Tensor& x, const Segments& segments, const Tensor& window,
                  const Tensor& y) {
  const auto sequences = sequences_of(segments, window);
  kernels::conv1d_causal(ComputePool(), conv, rows_in<float>(x), sequences, rows_out<float>(y));
}
void forward_rows(const kernels::Conv1dCausalOf<double>& conv, const Tensor& x, const Segments& segments,
                  const Tensor& window, const Tensor& y) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto [first, rows] = segments[i];
    kernels::reference::conv1d_causal<double>(conv, rows_in<double>(x).slice_rows(first, rows),
                                              state_of<double>(window, i), rows_out<double>(y).slice_rows(first, rows));
  }
}

void backward_rows(const kernels::Conv1dCausal& conv, const Tensor& x, const Tensor& dy, const Segments& segments,
                   const Tensor& window, const std::vector<kernels::SequenceGradients>& windows,
                   const kernels::Conv1dCausalGradients& gradients) {
  const auto sequences = sequences_of(segments, window);
  kernels::conv1d_causal_backward(ComputePool(), conv, rows_in<float>(x), rows_in<float>(dy), sequences, windows,
                                  gradients);
}
void backward_rows(const kernels::Conv1dCausalOf<double>& conv, const Tensor& x, const Tensor& dy,
                   const Segments& segments, const Tensor& window,
                   const std::vector<kernels::SequenceGradientsOf<double>>& windows,
                   const kernels::Conv1dCausalGradientsOf<double>& gradients) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto [first, rows] = segments[i];
    kernels::Conv1dCausalGradientsOf<double> share = gradients;
    share.x = gradients.x.slice_rows(first, rows);
    kernels::reference::conv1d_causal_backward(conv, rows_in<double>(x).slice_rows(first, rows),
                                               state_of<double>(window, i).data(),
                                               rows_in<double>(dy).slice_rows(first, rows), windows[i], share);
  }
}

class Conv1dCausal : public torch::autograd::Function<Conv1dCausal> {
 public:
  // weight [K, C]
  static tensor_list forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias,
                             const Tensor& window, const Segments& segments, bool silu) {
    context->set_materialize_grads(false);
    const Tensor rows = as_rows(x), taps = as_block(weight), offset = as_block(bias);
    const Tensor before = as_block(window);
    const auto segment_count = static_cast<std::int64_t>(segments.size());
    Tensor after = states_to_advance(before, {segment_count, taps.size(0) - 1, taps.size(1)}, x);
    Tensor y = new_segment_rows(x, segments, rows.size(0), rows.size(1));
    with_real(
        x, [&](auto real) { forward_rows(kernel_of<decltype(real)>(taps, offset, silu), rows, segments, after, y); });
    context->save_for_backward({rows, taps, offset, before});
    context->saved_data["segments"] = to_list(segments);
    context->saved_data["silu"] = silu;
    context->saved_data["shape"] = x.sizes().vec();
    return {y.view(x.sizes()), after};
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &window = saved[3];
    const Segments segments = from_list(context->saved_data["segments"].toIntVector());
    const Tensor dy = upstream[0].defined() ? as_rows(upstream[0]) : at::zeros_like(x);
    const Tensor d_after = as_block(upstream[1]);
    Tensor dx = new_segment_rows(x, segments, x.size(0), x.size(1));
    Tensor d_weight = context->needs_input_grad(1) ? at::zeros_like(weight) : Tensor();
    Tensor d_bias = bias.defined() && context->needs_input_grad(2) ? at::zeros_like(bias) : Tensor();
    Tensor d_window = window.defined() && context->needs_input_grad(3) ? at::empty_like(window) : Tensor();
    with_real(x, [&](auto real) {
      using Real = decltype(real);
      const auto windows = state_gradients<Real>(segments, d_after, d_window);
      backward_rows(kernel_of<Real>(weight, bias, context->saved_data["silu"].toBool()), x, dy, segments, window,
                    windows,
                    {.x = rows_out<Real>(dx), .weight = values_of<Real>(d_weight), .bias = values_of<Real>(d_bias)});
    });
    return {dx.view(context->saved_data["shape"].toIntVector()), d_weight, d_bias, d_window, Tensor(), Tensor()};
  }
};

}  // namespace

ConvResult conv1d_causal(const Tensor& x, const Tensor& weight, const Tensor& bias, const Segments& segments, bool silu,
                         const Tensor& window) {
  check_real(x, "x of a convolution");
  check_same_type(weight, x, "the weight of a convolution");
  check_same_type(bias, x, "the bias of a convolution");
  check_same_type(window, x, "the window of a convolution");
  if (weight.dim() < 2 || weight.dim() > 3 || weight.size(-1) < 1 ||
      weight.size(-1) > kernels::Conv1dCausal::kMostWidth || (weight.dim() == 3 && weight.size(1) != 1)) {
    throw UserError(
        fmt::format("the weight of a convolution has shape [{}]", fmt::join(weight.sizes(), ", ")),
        fmt::format("it must be [channels, K] or [channels, 1, K], K at most {}", kernels::Conv1dCausal::kMostWidth));
  }
  const std::int64_t channels = weight.size(0), width = weight.size(-1);
  check_columns(x, channels, "x of a convolution");
  check_shape(bias, {channels}, "the bias of a convolution");
  check_shape(window, {static_cast<std::int64_t>(segments.size()), width - 1, channels}, "the window of a convolution");
  check_segments(segments, channels == 0 ? 0 : x.numel() / channels);
  tensor_list results =
      Conv1dCausal::apply(x, weight.reshape({channels, width}).t(), or_none(bias), or_none(window), segments, silu);
  return {results[0], results[1]};
}

}  // namespace krait::nn
