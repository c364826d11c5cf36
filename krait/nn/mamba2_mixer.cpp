#include "krait/nn/mamba2_mixer.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "krait/nn/conv1d_causal.h"
#include "krait/nn/norms.h"
#include "krait/nn/prefix_rows.h"
#include "krait/nn/scan_ssd.h"

namespace krait::nn {

Mamba2Mixer::Mamba2Mixer(const Mamba2Dimensions& dimensions) : dimensions_(dimensions) {
  Mamba2Dimensions& of = dimensions_;
  if (of.inner == 0) of.inner = 2 * of.width;
  if (of.head_width < 1 || of.inner % of.head_width != 0) {
    throw UserError(fmt::format("heads of {} in an inner width of {}", of.head_width, of.inner),
                    "the inner width is a multiple of the heads' width");
  }
  heads_ = of.inner / of.head_width;
  const std::int64_t conv_channels = of.inner + 2 * of.groups * of.states;
  in_proj_ = register_module("in_proj", std::make_shared<Dense>(of.width, of.inner + conv_channels + heads_));
  const auto conv = register_module("conv1d", std::make_shared<ConvWeight>(conv_channels, of.conv_width));
  conv_weight_ = conv->weight;
  conv_bias_ = conv->bias;
  dt_bias_ = register_parameter("dt_bias", time_step_bias(heads_, of.time_step));
  a_log_ = register_parameter("A_log", uniform_log(heads_, of.a_low, of.a_high));
  d_ = register_parameter("D", at::ones({heads_}));
  norm_ = register_module("norm", std::make_shared<NormWeight>(of.inner));
  out_proj_ = register_module("out_proj", std::make_shared<Dense>(of.inner, of.width));
}

Tensor Mamba2Mixer::scan(const Tensor& conv_input, const Tensor& dt, const Segments& segments) const {
  const Mamba2Dimensions& of = dimensions_;
  const Tensor convolved = conv1d_causal(conv_input, conv_weight_, conv_bias_, segments).y;
  const auto parts = split_columns(convolved, {of.inner, of.groups * of.states, of.groups * of.states});
  return ssd_scan({.x = parts[0],
                   .dt = dt,
                   .a = -a_log_.exp(),
                   .b = parts[1],
                   .c = parts[2],
                   .d = d_,
                   .dt_bias = dt_bias_,
                   .groups = of.groups,
                   .dt_low = of.dt_low,
                   .dt_high = of.dt_high},
                  segments)
      .y;
}

Tensor Mamba2Mixer::forward(const Tensor& u, const Batch& batch) {
  const Mamba2Dimensions& of = dimensions_;
  const std::int64_t conv_channels = of.inner + 2 * of.groups * of.states;
  const auto parts = split_columns(in_proj_->forward(u), {of.inner, conv_channels, heads_});
  Tensor y = scan(parts[1], parts[2], batch.segments);
  if (has_prefixes(batch)) {
    const PrefixRows prefixes = reversed_prefixes(batch);
    y = y.index_add(
        0, prefixes.rows,
        scan(parts[1].index_select(0, prefixes.rows), parts[2].index_select(0, prefixes.rows), prefixes.segments));
  }
  return out_proj_->forward(
      gated_rms_norm(y, parts[0], norm_->weight, of.epsilon, of.groups,
                     of.norm_before_gate ? kernels::GateOrder::kNormThenGate : kernels::GateOrder::kGateThenNorm));
}

}  // namespace krait::nn
