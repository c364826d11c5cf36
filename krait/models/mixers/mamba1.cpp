#include "krait/models/mixers/mamba1.h"

#include "krait/kernels/activation.h"
#include "krait/kernels/norm.h"

namespace krait::models {

Mamba1Mixer::Mamba1Mixer(const WeightScope& scope, const Mamba1Dimensions& dimensions, StateLayout& layout,
                         const std::string& state_name)
    : dimensions_(dimensions) {
  const auto [width, inner, states, conv_width, rank, inner_norms, epsilon, hax] = dimensions;
  in_proj_ = scope.matrix("in_proj.weight", "ssm_in.weight", 2 * inner, width);
  in_bias_ = scope.vector_if_present("in_proj.bias", "ssm_in.bias", 2 * inner);
  conv_.width = conv_width;
  conv_.weight = scope.taps("conv1d.weight", "ssm_conv1d.weight", inner, conv_width);
  conv_.bias = scope.vector_usually("conv1d.bias", "ssm_conv1d.bias", inner);
  x_proj_ = scope.matrix("x_proj.weight", "ssm_x.weight", rank + 2 * states, inner);
  dt_proj_ = scope.matrix("dt_proj.weight", "ssm_dt.weight", inner, rank);
  if (inner_norms == Mamba1Dimensions::InnerNorms::kWeighted) {
    dt_norm_ = scope.vector("dt_layernorm.weight", "ssm_dt_norm.weight", rank);
    b_norm_ = scope.vector("b_layernorm.weight", "ssm_b_norm.weight", states);
    c_norm_ = scope.vector("c_layernorm.weight", "ssm_c_norm.weight", states);
  }
  scan_.channels = inner;
  scan_.states = states;
  scan_.dt_bias = scope.vector("dt_proj.bias", "ssm_dt.bias", inner);
  float* a = scope.transposed("A_log", "ssm_a", inner, states);
  scope.negative_exponential(a, inner * states);
  scan_.a = a;
  scan_.d = scope.vector("D", "ssm_d", inner);
  out_proj_ = scope.matrix("out_proj.weight", "ssm_out.weight", width, inner);
  out_bias_ = scope.vector_if_present("out_proj.bias", "ssm_out.bias", width);

  scan_.state_dtype = scope.loader().state_dtype();
  if (scope.loader().failed()) return;
  window_offset_ = layout.add(state_name + ".conv", {conv_width - 1, inner}, DType::kF32, StateKind::kConvWindow);
  state_offset_ = layout.add(state_name + ".ssm", {states, inner}, scan_.state_dtype, StateKind::kRecurrent);
  window_bytes_ = state_offset_ - window_offset_;
  state_bytes_ = layout.bytes() - state_offset_;
  if (hax) hax_.emplace(scope, *hax, inner, states, layout, state_name);
}

void Mamba1Mixer::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  forward_keeping(step, u, out, {});
}

void Mamba1Mixer::forward_keeping(Step& step, kernels::RowsIn u, kernels::RowsOut out, kernels::RowsOut kept) const {
  const Workspace::Mark scratch(step.workspace());
  ThreadPool& pool = step.pool();
  const std::int64_t inner = dimensions_.inner;
  const std::int64_t states = dimensions_.states;
  const std::int64_t rank = dimensions_.dt_rank;

  const kernels::RowsOut xz = step.rows(2 * inner);  // [M, 2E]
  kernels::linear(pool, u, in_proj_, in_bias_, xz);
  step.lap("in_proj", in_proj_);
  const kernels::RowsOut x = step.rows(inner);  // [M, E]
  kernels::conv1d_causal(pool, conv_, xz.slice_columns(0, inner), step.sequences(window_offset_), x);
  step.lap_scan("conv1d", window_bytes_, 2 * inner, 2 * dimensions_.conv_width * inner);

  const kernels::RowsOut projected = step.rows(rank + 2 * states);  // [M, R+2N]
  kernels::linear(pool, x, x_proj_, nullptr, projected);
  step.lap("x_proj", x_proj_);
  const kernels::RowsOut dt_low = projected.slice_columns(0, rank);
  const kernels::RowsOut b = projected.slice_columns(rank, states);
  const kernels::RowsOut c = projected.slice_columns(rank + states, states);
  if (dimensions_.inner_norms != Mamba1Dimensions::InnerNorms::kNone) {
    kernels::rms_norm(pool, dt_low, dt_norm_, dimensions_.inner_epsilon, dt_low);
    kernels::rms_norm(pool, b, b_norm_, dimensions_.inner_epsilon, b);
    kernels::rms_norm(pool, c, c_norm_, dimensions_.inner_epsilon, c);
  }
  const kernels::RowsOut dt = step.rows(inner);  // [M, E]
  kernels::linear(pool, dt_low, dt_proj_, nullptr, dt);
  step.lap("dt_proj", dt_proj_);

  const kernels::RowsIn z = xz.slice_columns(inner, inner);
  const bool gate_in_scan = kept.empty() && !hax_;
  const kernels::RowsOut y = gate_in_scan ? x : kept.empty() ? step.rows(inner) : kept;
  kernels::selective_scan(pool, scan_, x, dt, b, c, gate_in_scan ? z : kernels::RowsIn(), step.sequences(state_offset_),
                          y);
  // Of each state: a decay and its exponential (8), a multiply-add, an input and its part of y.
  step.lap_scan("scan", state_bytes_, 4 * inner + 2 * states, 16 * inner * states);
  if (hax_) hax_->add(step, x, y);
  if (!gate_in_scan) {
    kernels::silu_gate(pool, y, z, x);
    step.lap_rows("gate", 2 * inner);
  }
  kernels::linear(pool, x, out_proj_, out_bias_, out);
  step.lap("out_proj", out_proj_);
}

}  // namespace krait::models
