#include "krait/nn/token_loss.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "krait/kernels/reference/token_loss.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/linear.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

kernels::TokenLossSums run(const kernels::TokenLoss& loss, const Tensor& hidden, std::span<const std::int32_t> targets,
                           std::span<const float> weights, const Tensor& losses,
                           const kernels::TokenLossGradients& gradients) {
  return kernels::token_loss(ComputePool(), loss, rows_in<float>(hidden), targets, weights, values_of<float>(losses),
                             gradients);
}
kernels::TokenLossSums run(const kernels::TokenLossOf<double>& loss, const Tensor& hidden,
                           std::span<const std::int32_t> targets, std::span<const float> weights, const Tensor& losses,
                           const kernels::TokenLossGradientsOf<double>& gradients) {
  const std::vector<double> wide(weights.begin(), weights.end());
  return kernels::reference::token_loss(loss, rows_in<double>(hidden), targets, wide, values_of<double>(losses),
                                        gradients);
}

struct Targets {
  std::span<const std::int32_t> ids;
  std::span<const float> weights;  // divided already
  TokenLossOptions options;
};

class TokenLoss : public torch::autograd::Function<TokenLoss> {
 public:
  static tensor_list forward(AutogradContext* context, const Tensor& hidden, const Tensor& head,
                             const Targets& targets) {
    const Tensor rows = as_rows(hidden), table = as_block(head);
    // Inside a function autograd is off: what it needs is asked of the tensors.
    Tensor d_hidden, d_head;
    if (hidden.requires_grad()) d_hidden = new_rows(hidden, rows.size(0), rows.size(1));
    if (head.requires_grad()) d_head = at::zeros_like(table);
    Tensor losses = at::empty({rows.size(0)}, rows.options());
    const kernels::TokenLossSums sums = with_real(hidden, [&](auto real) {
      using Real = decltype(real);
      kernels::TokenLossOf<Real> loss{.head = rows_in<Real>(table),
                                      .vocabulary = targets.options.vocabulary,
                                      .z_factor = static_cast<Real>(targets.options.z_factor),
                                      .smoothing = static_cast<Real>(targets.options.smoothing)};
      if (bf16_products()) loss.precision = kernels::ProductPrecision::kBF16;
      return run(loss, rows, targets.ids, targets.weights, losses,
                 {.hidden = rows_out<Real>(d_hidden), .head = rows_out<Real>(d_head)});
    });
    context->save_for_backward({d_hidden, d_head});
    context->saved_data["shape"] = hidden.sizes().vec();
    context->mark_non_differentiable({losses});
    return {at::scalar_tensor(sums.total(), rows.options()), losses};
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    // Nearly always 1.
    const double scale = upstream[0].to(at::kDouble).item<double>();
    const auto scaled = [&](const Tensor& of) { return !of.defined() || scale == 1.0 ? of : of * scale; };
    Tensor d_hidden = scaled(saved[0]);
    if (d_hidden.defined()) d_hidden = d_hidden.view(context->saved_data["shape"].toIntVector());
    return {d_hidden, scaled(saved[1]), Tensor()};
  }
};

}  // namespace

TokenLossResult token_loss(const Tensor& hidden, const Tensor& head, std::span<const std::int32_t> targets,
                           std::span<const float> row_weights, const TokenLossOptions& options, double divisor) {
  check_real(hidden, "the hidden rows of a token loss");
  check_same_type(head, hidden, "the head of a token loss");
  check_columns(head, hidden.size(-1), "the head of a token loss");
  const auto rows = static_cast<std::size_t>(hidden.size(-1) == 0 ? 0 : hidden.numel() / hidden.size(-1));
  if (targets.size() != rows || (!row_weights.empty() && row_weights.size() != rows)) {
    throw UserError(fmt::format("{} targets and {} weights for {} rows", targets.size(), row_weights.size(), rows),
                    "each row has a target, -100 where it has no loss");
  }
  TokenLossOptions known = options;
  if (known.vocabulary == 0) known.vocabulary = head.size(0);
  double total = 0.0;
  std::int64_t counted = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    if (targets[i] == kernels::kNoTarget) continue;
    if (targets[i] < 0 || targets[i] >= known.vocabulary) {
      throw UserError(fmt::format("target {} of a vocabulary of {}", targets[i], known.vocabulary),
                      "targets are tokens, or -100 for none");
    }
    ++counted;
    total += row_weights.empty() ? 1.0 : double{row_weights[i]};
  }
  if (divisor == 0.0) divisor = total > 0.0 ? total : 1.0;
  std::vector<float> weights(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    weights[i] = static_cast<float>((row_weights.empty() ? 1.0 : double{row_weights[i]}) / divisor);
  }
  const tensor_list results = TokenLoss::apply(hidden, head, Targets{targets, weights, known});
  return {results[0], results[1], counted};
}

}  // namespace krait::nn
