#include "krait/nn/gated_delta_mixer.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>

#include "krait/nn/conv1d_causal.h"
#include "krait/nn/norms.h"
#include "krait/nn/prefix_rows.h"
#include "krait/nn/scan_delta.h"

namespace krait::nn {

GatedDeltaMixer::GatedDeltaMixer(const GatedDeltaDimensions& dimensions) : dimensions_(dimensions) {
  GatedDeltaDimensions& of = dimensions_;
  if (of.value_heads == 0) of.value_heads = of.key_heads;
  if (of.value_width == 0) of.value_width = of.key_width;
  if (of.key_heads < 1 || of.value_heads % of.key_heads != 0 || of.key_width < 1 || of.value_width < 1) {
    throw UserError(fmt::format("{} heads of keys of {} and {} heads of values of {}", of.key_heads, of.key_width,
                                of.value_heads, of.value_width),
                    "heads of values are a multiple of those of keys");
  }
  const std::int64_t keys = of.key_heads * of.key_width, values = of.value_heads * of.value_width;
  qkv_ = register_module("in_proj_qkv", std::make_shared<Dense>(of.width, 2 * keys + values));
  z_ = register_module("in_proj_z", std::make_shared<Dense>(of.width, values));
  b_ = register_module("in_proj_b", std::make_shared<Dense>(of.width, of.value_heads));
  a_ = register_module("in_proj_a", std::make_shared<Dense>(of.width, of.value_heads));
  conv_ = register_module("conv1d", std::make_shared<ConvWeight>(2 * keys + values, of.conv_width, false));
  dt_bias_ = register_parameter("dt_bias", time_step_bias(of.value_heads, of.time_step));
  a_log_ = register_parameter("A_log", uniform_log(of.value_heads, of.a_low, of.a_high));
  norm_ = register_module("norm", std::make_shared<NormWeight>(of.value_width));
  out_proj_ = register_module("out_proj", std::make_shared<Dense>(values, of.width));
}

Tensor GatedDeltaMixer::scan(const Tensor& qkv, const Tensor& dt, const Tensor& beta, const Segments& segments) const {
  const GatedDeltaDimensions& of = dimensions_;
  const std::int64_t keys = of.key_heads * of.key_width, values = of.value_heads * of.value_width;
  const auto parts = split_columns(conv1d_causal(qkv, conv_->weight, conv_->bias, segments).y, {keys, keys, values});
  constexpr double kEpsilon = 1e-6;  // beside the sum of squares, in all programs
  const double scale = 1.0 / std::sqrt(static_cast<double>(of.key_width));
  return delta_scan({.q = normalised_heads(parts[0], of.key_heads, kEpsilon, scale),
                     .k = normalised_heads(parts[1], of.key_heads, kEpsilon),
                     .v = parts[2],
                     .dt = dt,
                     .beta = beta,
                     .a = -a_log_.exp(),
                     .key_heads = of.key_heads},
                    segments)
      .y;
}

Tensor GatedDeltaMixer::forward(const Tensor& u, const Batch& batch) {
  const GatedDeltaDimensions& of = dimensions_;
  const Tensor qkv = qkv_->forward(u), z = z_->forward(u), beta = b_->forward(u).sigmoid();
  const Tensor dt = at::softplus(a_->forward(u) + dt_bias_);
  Tensor o = scan(qkv, dt, beta, batch.segments);
  if (has_prefixes(batch)) {
    const PrefixRows prefixes = reversed_prefixes(batch);
    const auto backwards = [&](const Tensor& rows) { return rows.index_select(0, prefixes.rows); };
    o = o.index_add(0, prefixes.rows, scan(backwards(qkv), backwards(dt), backwards(beta), prefixes.segments));
  }
  const Tensor normed = gated_rms_norm(o.reshape({-1, of.value_width}), z.reshape({-1, of.value_width}), norm_->weight,
                                       of.epsilon, 1, kernels::GateOrder::kNormThenGate);
  return out_proj_->forward(normed.reshape(o.sizes()));
}

}  // namespace krait::nn
