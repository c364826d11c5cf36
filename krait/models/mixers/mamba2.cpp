#include "krait/models/mixers/mamba2.h"

#include "krait/kernels/activation.h"

namespace krait::models {

void read_dt_limits(WeightLoader& loader, std::string_view key, Mamba2Dimensions& mixer) {
  if (!loader.config().has(key)) return;
  const auto limits = loader.config().numbers(key);
  if (!limits || limits->size() != 2 || !((*limits)[0] <= (*limits)[1])) {
    loader.set_error(
        {ErrorCode::kCorrupt, fmt::format("[models] {} is not a pair of limits ({})", key, loader.config().origin())});
    return;
  }
  mixer.dt_low = static_cast<float>((*limits)[0]);
  mixer.dt_high = static_cast<float>((*limits)[1]);
}

Mamba2Mixer::Mamba2Mixer(const WeightScope& scope, const Mamba2Dimensions& dimensions, StateLayout& layout,
                         const std::string& state_name)
    : dimensions_(dimensions) {
  const std::int64_t width = dimensions.width;
  const std::int64_t heads = dimensions.heads;
  const std::int64_t conv_channels = x_columns() + b_columns() + group_states();
  if (heads % dimensions.groups != 0) {
    scope.loader().set_error(
        {ErrorCode::kCorrupt, fmt::format("[models] {} heads do not divide into {} groups", heads, dimensions.groups)});
    return;
  }
  if (dimensions.shared_heads > 0 && (heads % dimensions.shared_heads != 0 || dimensions.groups != heads)) {
    scope.loader().set_error(
        {ErrorCode::kCorrupt, fmt::format("[models] {} heads in {} groups cannot share {} of x and B", heads,
                                          dimensions.groups, dimensions.shared_heads)});
    return;
  }
  const std::int64_t projected = inner() + conv_channels + heads;
  in_proj_ = scope.matrix("in_proj.weight", "ssm_in.weight", projected, width);
  in_bias_ = scope.vector_if_present("in_proj.bias", "ssm_in.bias", projected);
  conv_.width = dimensions.conv_width;
  float* taps = scope.taps("conv1d.weight", "ssm_conv1d.weight", conv_channels, dimensions.conv_width);
  conv_.weight = taps;
  in_proj_.scale *= dimensions.input_factor;
  // The convolution is linear in x, B and C: their factors are as good on its taps.
  for (std::int64_t i = 0; taps != nullptr && i < dimensions.conv_width * conv_channels; ++i) {
    const std::int64_t channel = i % conv_channels;
    const std::size_t part = channel < x_columns() ? 1 : channel < x_columns() + b_columns() ? 2 : 3;
    taps[i] *= dimensions.part_factors[part];
  }
  conv_.bias = scope.vector_usually("conv1d.bias", "ssm_conv1d.bias", conv_channels);

  scan_.heads = heads;
  scan_.head_width = dimensions.head_width;
  scan_.states = dimensions.states;
  scan_.groups = dimensions.groups;
  scan_.dt_low = dimensions.dt_low;
  scan_.dt_high = dimensions.dt_high;
  scan_.dt_bias = scope.vector("dt_bias", "ssm_dt.bias", heads);
  float* a = scope.vector("A_log", "ssm_a", heads);
  scope.negative_exponential(a, heads);
  scan_.a = a;
  // D is one value a head, or one a channel where the model was trained with D_has_hdim.
  const Shape d_shape = scope.loader().planning() ? Shape{heads} : scope.loader().shape(scope.name("D", "ssm_d"));
  scan_.d_per_channel = dimensions.head_width > 1 && element_count(d_shape) == inner();
  scan_.d = scope.vector("D", "ssm_d", scan_.d_per_channel ? inner() : heads);
  if (dimensions.state_norms) {
    b_norm_ = scope.vector("B_norm.weight", "", dimensions.states);
    c_norm_ = scope.vector("C_norm.weight", "", dimensions.states);
  }
  if (dimensions.gated_norm) norm_ = scope.vector("norm.weight", "ssm_norm.weight", inner());
  out_proj_ = scope.matrix("out_proj.weight", "ssm_out.weight", width, inner());
  out_proj_.scale *= dimensions.output_factor;
  out_bias_ = scope.vector_if_present("out_proj.bias", "ssm_out.bias", width);
  for (std::int64_t i = 0; out_bias_ != nullptr && i < width; ++i) out_bias_[i] *= dimensions.output_factor;

  scan_.state_dtype = scope.loader().state_dtype();
  if (scope.loader().failed()) return;
  window_offset_ =
      layout.add(state_name + ".conv", {dimensions.conv_width - 1, conv_channels}, DType::kF32, StateKind::kConvWindow);
  state_offset_ = layout.add(state_name + ".ssm", {heads, dimensions.states, dimensions.head_width}, scan_.state_dtype,
                             StateKind::kRecurrent);
  window_bytes_ = state_offset_ - window_offset_;
  state_bytes_ = layout.bytes() - state_offset_;
  if (dimensions.hax) hax_.emplace(scope, *dimensions.hax, inner(), dimensions.states, layout, state_name);
}

void Mamba2Mixer::prepare_states(Step& step, kernels::RowsOut b, kernels::RowsOut c) const {
  const std::int64_t states = dimensions_.states;
  for (const auto& [part, norm] : {std::pair{b, b_norm_}, std::pair{c, c_norm_}}) {
    for (std::int64_t head = 0; norm != nullptr && head < part.columns / states; ++head) {
      const kernels::RowsOut rows = part.slice_columns(head * states, states);
      kernels::rms_norm(step.pool(), rows, norm, dimensions_.state_norm_epsilon, rows);
    }
    if (dimensions_.rotary.width == 0) continue;
    kernels::rotate(step.pool(), dimensions_.rotary, step.rotary_table(dimensions_.rotary), states, part);
  }
  step.lap_rows("norm", b.columns + c.columns);
}

void Mamba2Mixer::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  ThreadPool& pool = step.pool();
  const std::int64_t conv_channels = x_columns() + b_columns() + group_states();

  const kernels::RowsOut projected = step.rows(inner() + conv_channels + dimensions_.heads);  // z, xBC, dt
  kernels::linear(pool, u, in_proj_, in_bias_, projected);
  step.lap("in_proj", in_proj_);
  const kernels::RowsOut z = projected.slice_columns(0, inner());
  const kernels::RowsOut dt = projected.slice_columns(inner() + conv_channels, dimensions_.heads);
  if (dimensions_.part_factors[0] != 1.0F) kernels::scale(pool, dimensions_.part_factors[0], z);
  if (dimensions_.part_factors[4] != 1.0F) kernels::scale(pool, dimensions_.part_factors[4], dt);

  const kernels::RowsOut xbc_projected = projected.slice_columns(inner(), conv_channels);
  if (b_norm_ != nullptr || dimensions_.rotary.width > 0) {
    prepare_states(step, xbc_projected.slice_columns(x_columns(), b_columns()),
                   xbc_projected.slice_columns(x_columns() + b_columns(), group_states()));
  }

  const kernels::RowsOut xbc = step.rows(conv_channels);
  kernels::conv1d_causal(pool, conv_, xbc_projected, step.sequences(window_offset_), xbc);
  step.lap_scan("conv1d", window_bytes_, 2 * conv_channels, 2 * dimensions_.conv_width * conv_channels);
  kernels::RowsIn x = xbc.slice_columns(0, x_columns());
  kernels::RowsIn b = xbc.slice_columns(x_columns(), b_columns());
  const kernels::RowsIn c = xbc.slice_columns(x_columns() + b_columns(), group_states());
  if (shares()) {
    const kernels::RowsOut all_x = step.rows(inner()), all_b = step.rows(group_states());
    kernels::repeat_heads(pool, x, dimensions_.head_width, all_x);
    kernels::repeat_heads(pool, b, dimensions_.states, all_b);
    x = all_x;
    b = all_b;
  }

  const kernels::RowsOut y = step.rows(inner());
  kernels::ssd_scan(pool, scan_, x, dt, b, c, step.sequences(state_offset_), y);
  // Of each state of the plain recurrence: a decay, an input, a part of y.
  step.lap_scan("scan", state_bytes_, conv_channels + inner(), 5 * inner() * dimensions_.states);
  if (hax_) hax_->add(step, x, y);
  if (dimensions_.gated_norm) {
    kernels::gated_rms_norm(pool, y, z, norm_, dimensions_.epsilon, dimensions_.groups, dimensions_.gate_order, y);
  } else {
    kernels::silu_gate(pool, y, z, y);
  }
  step.lap_rows("gated norm", 2 * inner());
  kernels::linear(pool, y, out_proj_, out_bias_, out);
  step.lap("out_proj", out_proj_);
}

}  // namespace krait::models
