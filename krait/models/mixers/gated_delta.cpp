#include "krait/models/mixers/gated_delta.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "krait/kernels/activation.h"
#include "krait/kernels/norm.h"

namespace krait::models {

GatedDeltaMixer::GatedDeltaMixer(const WeightScope& scope, const GatedDeltaDimensions& dimensions, StateLayout& layout,
                                 const std::string& state_name)
    : dimensions_(dimensions) {
  const GatedDeltaDimensions& d = dimensions_;
  WeightLoader& loader = scope.loader();
  if (loader.failed()) return;
  if (d.value_heads % d.key_heads != 0) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] {} value heads are no multiple of {} key heads ({})",
                                                       d.value_heads, d.key_heads, loader.config().origin())});
    return;
  }
  if (d.shared_heads > 0 && (d.key_heads % d.shared_heads != 0 || d.value_heads != d.key_heads)) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] {} heads cannot share {} of keys and values ({})",
                                                       d.key_heads, d.shared_heads, loader.config().origin())});
    return;
  }
  if (loader.state_dtype() != DType::kF32) {
    loader.set_error({ErrorCode::kUnsupported, fmt::format("[models] states of the gated delta rule are kept as f32, "
                                                           "not as {}",
                                                           to_string(loader.state_dtype()))});
    return;
  }
  conv_.width = d.conv_width;
  if (d.apart) {
    load_apart(scope);
  } else {
    load_projections(scope);
    conv_.weight = scope.taps("conv1d.weight", "ssm_conv1d.weight", channels(), d.conv_width);
    conv_.bias = scope.vector_if_present("conv1d.bias", "ssm_conv1d.bias", channels());
  }
  dt_bias_ = scope.vector("dt_bias", "ssm_dt.bias", d.value_heads);
  float* a = scope.vector("A_log", "ssm_a", d.value_heads);
  scope.negative_exponential(a, d.value_heads);
  norm_ = scope.vector(d.apart ? "o_norm.weight" : "norm.weight", "ssm_norm.weight", d.value_width);
  out_proj_ = scope.matrix(d.apart ? "o_proj.weight" : "out_proj.weight", "ssm_out.weight", d.width, values(),
                           {.rows = {}, .gguf_scale = false});
  scan_ = {.key_heads = d.key_heads,
           .value_heads = d.value_heads,
           .key_width = d.key_width,
           .value_width = d.value_width,
           .a = a};
  const auto width = static_cast<float>(d.key_width);
  query_scale_.assign(static_cast<std::size_t>(d.key_width), 1.0F / width);
  key_scale_.assign(static_cast<std::size_t>(d.key_width), 1.0F / std::sqrt(width));
  if (loader.failed()) return;
  window_offset_ =
      layout.add(state_name + ".conv", {d.conv_width - 1, channels()}, DType::kF32, StateKind::kConvWindow);
  state_offset_ = layout.add(state_name + ".delta", {d.value_heads, d.key_width, d.value_width}, DType::kF32,
                             StateKind::kRecurrent);
  window_bytes_ = state_offset_ - window_offset_;
  state_bytes_ = layout.bytes() - state_offset_;
}

void GatedDeltaMixer::load_projections(const WeightScope& scope) {
  const GatedDeltaDimensions& d = dimensions_;
  const MatrixOptions whole = {.rows = {}, .gguf_scale = false};
  const bool planned_apart = scope.loader().planning() && !d.interleaved;
  if (scope.has("in_proj_qkv.weight", "attn_qkv.weight") || planned_apart) {
    qkv_ = {scope.matrix("in_proj_qkv.weight", "attn_qkv.weight", channels(), d.width, whole)};
    z_ = scope.matrix("in_proj_z.weight", "attn_gate.weight", values(), d.width, whole);
  } else {
    const std::string fused = scope.name("in_proj_qkvz.weight", "ssm_in.weight");
    if (!scope.loader().rows_are_sound(fused, channels() + values())) return;
    // For every key head: q [Dk], k [Dk], v [r Dv], z [r Dv].
    const std::int64_t per_head = values() / d.key_heads, stride = 2 * d.key_width + 2 * per_head;
    MatrixOptions qkv = whole, z = whole;
    qkv.rows.all = z.rows.all = d.key_heads * stride;
    const auto append = [&](std::vector<std::int64_t>& order, std::int64_t first, std::int64_t count) {
      for (std::int64_t head = 0; head < d.key_heads; ++head) {
        for (std::int64_t i = 0; i < count; ++i) order.push_back(head * stride + first + i);
      }
    };
    append(qkv.rows.order, 0, d.key_width);
    append(qkv.rows.order, d.key_width, d.key_width);
    append(qkv.rows.order, 2 * d.key_width, per_head);
    append(z.rows.order, 2 * d.key_width + per_head, per_head);
    qkv_ = {scope.matrix("in_proj_qkvz.weight", "ssm_in.weight", channels(), d.width, qkv)};
    z_ = scope.matrix("in_proj_qkvz.weight", "ssm_in.weight", values(), d.width, z);
  }
  if (scope.has("in_proj_b.weight", "ssm_beta.weight") || planned_apart) {
    beta_ = scope.matrix("in_proj_b.weight", "ssm_beta.weight", d.value_heads, d.width, whole);
    dt_ = scope.matrix("in_proj_a.weight", "ssm_alpha.weight", d.value_heads, d.width, whole);
    return;
  }
  // For every key head: b [r], a [r].
  const std::int64_t repeats = d.value_heads / d.key_heads;
  MatrixOptions b = whole, a = whole;
  b.rows.all = a.rows.all = 2 * d.value_heads;
  for (std::int64_t h = 0; h < d.value_heads; ++h) {
    b.rows.order.push_back(h / repeats * 2 * repeats + h % repeats);
    a.rows.order.push_back(b.rows.order.back() + repeats);
  }
  beta_ = scope.matrix("in_proj_ba.weight", "ssm_ba.weight", d.value_heads, d.width, b);
  dt_ = scope.matrix("in_proj_ba.weight", "ssm_ba.weight", d.value_heads, d.width, a);
}

void GatedDeltaMixer::load_apart(const WeightScope& scope) {
  const GatedDeltaDimensions& d = dimensions_;
  const std::array<std::pair<const char*, std::int64_t>, 3> parts = {
      {{"q", keys()}, {"k", k_columns()}, {"v", v_columns()}}};
  std::array<const float*, 3> taps{};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& [part, columns] = parts[i];
    qkv_.push_back(scope.matrix(fmt::format("{}_proj.weight", part), "", columns, d.width));
    taps[i] = scope.taps(fmt::format("{}_conv1d.weight", part), "", columns, d.conv_width);
  }
  // Tensors that are there have the sizes that they should have: only then is there something to allocate for.
  if (!scope.loader().failed() && std::ranges::find(taps, nullptr) == taps.end()) {
    for (std::int64_t k = 0; k < d.conv_width; ++k) {
      for (std::size_t i = 0; i < parts.size(); ++i) {
        const float* const row = taps[i] + k * parts[i].second;
        taps_.insert(taps_.end(), row, row + parts[i].second);
      }
    }
    conv_.weight = taps_.data();
  }
  z_ = scope.matrix("g_proj.weight", "", values(), d.width);
  beta_ = scope.matrix("b_proj.weight", "", d.value_heads, d.width);
  dt_ = scope.matrix("gk_proj.weight", "", d.value_heads, d.width);
}

void GatedDeltaMixer::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  const GatedDeltaDimensions& d = dimensions_;
  ThreadPool& pool = step.pool();
  const std::int64_t rows = step.row_count();
  const kernels::RowsOut projected = step.rows(channels());
  const kernels::RowsOut z = step.rows(values());
  const kernels::RowsOut beta = step.rows(d.value_heads), dt = step.rows(d.value_heads);
  std::vector<kernels::GroupedProduct> products = {{.weight = &z_, .bias = nullptr, .y = z},
                                                   {.weight = &beta_, .bias = nullptr, .y = beta},
                                                   {.weight = &dt_, .bias = nullptr, .y = dt}};
  std::int64_t at = 0;
  for (const kernels::WeightMatrix& matrix : qkv_) {
    products.push_back({.weight = &matrix, .bias = nullptr, .y = projected.slice_columns(at, matrix.rows)});
    at += matrix.rows;
  }
  kernels::linear_group(pool, u, products);
  if (qkv_.size() == 1) {
    step.lap("in_proj", {&qkv_.front(), &z_, &beta_, &dt_}, rows);
  } else {
    step.lap("in_proj", {&qkv_[0], &qkv_[1], &qkv_[2], &z_, &beta_, &dt_}, rows);
  }
  kernels::sigmoid(pool, beta, beta);
  if (d.beta_factor != 1.0F) kernels::scale(pool, d.beta_factor, beta);
  kernels::softplus(pool, dt, dt_bias_, 0.0F, std::numeric_limits<float>::infinity(), dt);

  const kernels::RowsOut qkv = step.rows(channels());
  kernels::conv1d_causal(pool, conv_, projected, step.sequences(window_offset_), qkv);
  step.lap_scan("conv1d", window_bytes_, 2 * channels(), 2 * d.conv_width * channels());
  // Norms with 1e-6 beside the sum of squares, which is Dk times the mean.
  const float epsilon = 1e-6F / static_cast<float>(d.key_width);
  for (std::int64_t head = 0; head < (keys() + k_columns()) / d.key_width; ++head) {
    const kernels::RowsOut part = qkv.slice_columns(head * d.key_width, d.key_width);
    const auto& scale = head < d.key_heads ? query_scale_ : key_scale_;
    kernels::rms_norm(pool, part, scale.data(), epsilon, part);
  }
  step.lap_rows("norm", keys() + k_columns());
  kernels::RowsIn k = qkv.slice_columns(keys(), k_columns());
  kernels::RowsIn v = qkv.slice_columns(keys() + k_columns(), v_columns());
  if (shares()) {
    const kernels::RowsOut all_k = step.rows(keys()), all_v = step.rows(values());
    kernels::repeat_heads(pool, k, d.key_width, all_k);
    kernels::repeat_heads(pool, v, d.value_width, all_v);
    k = all_k;
    v = all_v;
  }
  const kernels::RowsOut o = step.rows(values());
  kernels::delta_scan(pool, scan_, {.q = qkv.slice_columns(0, keys()), .k = k, .v = v, .dt = dt, .beta = beta},
                      step.sequences(state_offset_), o);
  // Of each element of the state: a decay, what it knows, what is added, what is read.
  step.lap_scan("scan", state_bytes_, channels() + values(), 7 * values() * d.key_width);
  const kernels::RowsOut heads(o.data, rows * d.value_heads, d.value_width);
  kernels::gated_rms_norm(pool, heads, kernels::RowsIn(z.data, heads.rows, heads.columns), norm_, d.epsilon, 1,
                          kernels::GateOrder::kNormThenGate, heads);
  step.lap_rows("gated norm", 2 * values());
  kernels::linear(pool, o, out_proj_, nullptr, out);
  step.lap("out_proj", out_proj_);
}

}  // namespace krait::models
