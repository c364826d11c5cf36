#include "krait/nn/long_convolution.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/long_convolution_backward.h"
#include "krait/kernels/reference/long_convolution.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

template <class Real>
kernels::LongConvolutionOf<Real> convolution_of(const Tensor& kernel, const Tensor& ahead, const Tensor& d,
                                                std::int64_t first_ahead) {
  return {.kernel = rows_in<Real>(kernel),
          .ahead = rows_in<Real>(ahead),
          .first_ahead = first_ahead,
          .d = values_of<Real>(d)};
}

class LongConvolution : public torch::autograd::Function<LongConvolution> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& kernel, const Tensor& ahead,
                        const Tensor& d, const Segments& segments, std::int64_t first_ahead) {
    const Tensor rows = as_rows(x), taps = as_block(kernel), taps_ahead = as_block(ahead), skip = as_block(d);
    const Tensor y = new_segment_rows(x, segments, rows.size(0), rows.size(1));
    const auto sequences = sequences_of(segments);
    if (x.scalar_type() == at::kDouble) {
      kernels::reference::long_convolution(convolution_of<double>(taps, taps_ahead, skip, first_ahead),
                                           rows_in<double>(rows), sequences, rows_out<double>(y));
    } else {
      kernels::long_convolution(ComputePool(), convolution_of<float>(taps, taps_ahead, skip, first_ahead),
                                rows_in<float>(rows), sequences, rows_out<float>(y));
    }
    context->save_for_backward({rows, taps, taps_ahead, skip});
    context->saved_data["segments"] = to_list(segments);
    context->saved_data["first_ahead"] = first_ahead;
    context->saved_data["shape"] = x.sizes().vec();
    return y.view(x.sizes());
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &kernel = saved[1], &ahead = saved[2], &d = saved[3];
    const Segments segments = from_list(context->saved_data["segments"].toIntVector());
    const std::int64_t first_ahead = context->saved_data["first_ahead"].toInt();
    const Tensor dy = as_rows(upstream[0]);
    const auto sum_like = [&](std::size_t input) {
      return saved[input].defined() ? at::zeros_like(saved[input]) : Tensor();
    };
    const Tensor dx = new_segment_rows(x, segments, x.size(0), x.size(1));
    const Tensor d_kernel = sum_like(1), d_ahead = sum_like(2), d_d = sum_like(3);
    const auto sequences = sequences_of(segments);
    with_real(x, [&](auto real) {
      using Real = decltype(real);
      const auto convolution = convolution_of<Real>(kernel, ahead, d, first_ahead);
      const kernels::LongConvolutionGradientsOf<Real> gradients = {.x = rows_out<Real>(dx),
                                                                   .kernel = rows_out<Real>(d_kernel),
                                                                   .ahead = rows_out<Real>(d_ahead),
                                                                   .d = values_of<Real>(d_d)};
      if constexpr (std::is_same_v<Real, double>) {
        kernels::reference::long_convolution_backward(convolution, rows_in<double>(x), rows_in<double>(dy), sequences,
                                                      gradients);
      } else {
        kernels::long_convolution_backward(ComputePool(), convolution, rows_in<float>(x), rows_in<float>(dy), sequences,
                                           gradients);
      }
    });
    return {dx.view(context->saved_data["shape"].toIntVector()), d_kernel, d_ahead, d_d, Tensor(), Tensor()};
  }
};

}  // namespace

Tensor long_convolution(const LongConvolutionInputs& in, const Segments& segments) {
  check_real(in.x, "x of a long convolution");
  const std::int64_t channels = in.x.dim() == 0 ? 0 : in.x.size(-1);
  if (channels == 0) throw UserError("a long convolution without channels", "x has some");
  for (const auto& [tensor, name] :
       {std::pair(&in.kernel, "the kernel of a long convolution"), {&in.ahead, "its kernel ahead"}}) {
    check_same_type(*tensor, in.x, name);
    if (tensor->defined() && (tensor->dim() != 2 || tensor->size(0) != channels)) {
      throw UserError(fmt::format("{} has shape [{}]", name, fmt::join(tensor->sizes(), ", ")),
                      fmt::format("its shape must be [{}, length]", channels));
    }
  }
  if (!in.kernel.defined()) throw UserError("a long convolution without a kernel", "it has one for each channel");
  check_same_type(in.d, in.x, "D of a long convolution");
  check_shape(in.d, {channels}, "D of a long convolution");
  if (in.first_ahead < 0) {
    throw UserError(fmt::format("a kernel ahead that begins at {}", in.first_ahead), "it begins at 0 or later");
  }
  check_segments(segments, in.x.numel() / channels);
  return LongConvolution::apply(in.x, in.kernel, or_none(in.ahead), or_none(in.d), segments, in.first_ahead);
}

}  // namespace krait::nn
