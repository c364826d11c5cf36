#include "krait/nn/mamba3_mixer.h"

#include <ATen/Functions.h>

#include "krait/nn/prefix_rows.h"
#include "krait/nn/scan_trapezoidal.h"

namespace krait::nn {

Mamba3Mixer::Mamba3Mixer(const Mamba3Dimensions& dimensions) : dimensions_(dimensions) {
  Mamba3Dimensions& of = dimensions_;
  if (of.inner == 0) of.inner = 2 * of.width;
  if (!of.mimo) of.rank = 1;
  if (of.head_width < 1 || of.inner < 1 || of.inner % of.head_width != 0) {
    throw UserError(fmt::format("heads of {} in an inner width of {}", of.head_width, of.inner),
                    "the inner width is a multiple of the heads' width");
  }
  heads_ = of.inner / of.head_width;
  if (of.groups < 1 || heads_ % of.groups != 0 || of.rank < 1) {
    throw UserError(fmt::format("{} groups of {} heads, rank {}", of.groups, heads_, of.rank),
                    "groups have equal shares of the heads, and the rank is at least 1");
  }
  angles_ = static_cast<std::int64_t>(static_cast<double>(of.states) * of.turning) / 2;
  if (of.states < 2 || of.states % 2 != 0 || angles_ < 1 || 2 * angles_ > of.states) {
    throw UserError(fmt::format("{} states of which {} turn", of.states, of.turning),
                    "states are even in number, and one pair at least and all at most turn");
  }
  const std::int64_t inputs = of.rank * of.groups * of.states;
  in_proj_ =
      register_module("in_proj", std::make_shared<Dense>(of.width, 2 * of.inner + 2 * inputs + 3 * heads_ + angles_));
  dt_bias_ = register_parameter("dt_bias", time_step_bias(heads_, of.time_step));
  b_bias_ = register_parameter("B_bias", at::ones({heads_, of.rank, of.states}));
  c_bias_ = register_parameter("C_bias", at::ones({heads_, of.rank, of.states}));
  b_norm_ = register_module("B_norm", std::make_shared<NormWeight>(of.states));
  c_norm_ = register_module("C_norm", std::make_shared<NormWeight>(of.states));
  d_ = register_parameter("D", at::ones({heads_}));
  if (of.mimo) {
    const std::vector<std::int64_t> shape = {heads_, of.rank, of.head_width};
    const double share = 1.0 / static_cast<double>(of.rank);
    value_mix_ = register_parameter("mimo_x", at::full(shape, share));
    gate_mix_ = register_parameter("mimo_z", at::ones(shape));
    out_mix_ = register_parameter("mimo_o", at::full(shape, share));
  }
  if (of.output_norm) norm_ = register_module("norm", std::make_shared<NormWeight>(of.inner));
  out_proj_ = register_module("out_proj", std::make_shared<Dense>(of.inner, of.width));
}

Tensor Mamba3Mixer::scan(const Tensor& projected, const Segments& segments) const {
  const Mamba3Dimensions& of = dimensions_;
  const std::int64_t inputs = of.rank * of.groups * of.states;
  const auto parts = split_columns(projected, {of.inner, of.inner, inputs, inputs, heads_, heads_, heads_, angles_});
  return trapezoidal_scan({.x = parts[1],
                           .z = parts[0],
                           .b = parts[2],
                           .c = parts[3],
                           .dt = parts[4],
                           .a = parts[5],
                           .trap = parts[6],
                           .angle = parts[7],
                           .dt_bias = dt_bias_,
                           .b_norm = b_norm_->weight,
                           .c_norm = c_norm_->weight,
                           .b_bias = b_bias_,
                           .c_bias = c_bias_,
                           .d = d_,
                           .value_mix = value_mix_,
                           .gate_mix = gate_mix_,
                           .out_mix = out_mix_,
                           .norm = norm_ == nullptr ? Tensor() : norm_->weight,
                           .groups = of.groups,
                           .halves = of.mimo,
                           .decay_floor = of.decay_floor},
                          segments)
      .y;
}

Tensor Mamba3Mixer::forward(const Tensor& u, const Batch& batch) {
  const Tensor projected = in_proj_->forward(u);
  Tensor y = scan(projected, batch.segments);
  if (has_prefixes(batch)) {
    const PrefixRows prefixes = reversed_prefixes(batch);
    y = y.index_add(0, prefixes.rows, scan(projected.index_select(0, prefixes.rows), prefixes.segments));
  }
  return out_proj_->forward(y);
}

}  // namespace krait::nn
