#include "krait/nn/mamba1_mixer.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "krait/nn/activations.h"
#include "krait/nn/conv1d_causal.h"
#include "krait/nn/prefix_rows.h"
#include "krait/nn/scan_selective.h"

namespace krait::nn {

Mamba1Mixer::Mamba1Mixer(const Mamba1Dimensions& dimensions) : dimensions_(dimensions) {
  Mamba1Dimensions& of = dimensions_;
  if (of.inner == 0) of.inner = 2 * of.width;
  if (of.rank == 0) of.rank = (of.width + 15) / 16;
  in_proj_ = register_module("in_proj", std::make_shared<Dense>(of.width, 2 * of.inner));
  const auto conv = register_module("conv1d", std::make_shared<ConvWeight>(of.inner, of.conv_width));
  conv_weight_ = conv->weight;
  conv_bias_ = conv->bias;
  x_proj_ = register_module("x_proj", std::make_shared<Dense>(of.inner, of.rank + 2 * of.states));
  dt_proj_ = register_module("dt_proj", std::make_shared<Dense>(of.rank, of.inner, true));
  {
    const at::NoGradGuard guard;
    dt_proj_->bias.copy_(time_step_bias(of.inner, of.time_step));
  }
  a_log_ = register_parameter("A_log", s4d_real_log(of.inner, of.states));
  d_ = register_parameter("D", at::ones({of.inner}));
  out_proj_ = register_module("out_proj", std::make_shared<Dense>(of.inner, of.width));
}

Tensor Mamba1Mixer::addition(const Tensor&, const Batch&) const { return {}; }

Tensor Mamba1Mixer::convolved(const Tensor& x, const Segments& segments) const {
  return conv1d_causal(x, conv_weight_, conv_bias_, segments).y;
}

Tensor Mamba1Mixer::scan(const Tensor& convolved, const Tensor& z, const Segments& segments) const {
  const auto parts =
      split_columns(x_proj_->forward(convolved), {dimensions_.rank, dimensions_.states, dimensions_.states});
  // The scan adds the bias itself, before the softplus.
  return selective_scan({.x = convolved,
                         .dt = nn::linear(parts[0], dt_proj_->weight),
                         .a = -a_log_.exp(),
                         .b = parts[1],
                         .c = parts[2],
                         .d = d_,
                         .z = z,
                         .dt_bias = dt_proj_->bias},
                        segments)
      .y;
}

Tensor Mamba1Mixer::forward(const Tensor& u, const Batch& batch) {
  const auto halves = split_columns(in_proj_->forward(u), {dimensions_.inner, dimensions_.inner});
  const Tensor x = convolved(halves[0], batch.segments), more = addition(x, batch);
  // The scan's own gate saves a matrix where no more is to be added.
  if (!more.defined() && !has_prefixes(batch)) return out_proj_->forward(scan(x, halves[1], batch.segments));
  Tensor y = scan(x, {}, batch.segments);
  if (more.defined()) y = y + more;
  if (has_prefixes(batch)) {
    const PrefixRows prefixes = reversed_prefixes(batch);
    const Tensor backwards = convolved(halves[0].index_select(0, prefixes.rows), prefixes.segments);
    y = y.index_add(0, prefixes.rows, scan(backwards, {}, prefixes.segments));
  }
  return out_proj_->forward(silu_gate(y, halves[1]));
}

}  // namespace krait::nn
