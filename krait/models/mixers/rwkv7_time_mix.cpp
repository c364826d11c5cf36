#include "krait/models/mixers/rwkv7_time_mix.h"

#include <algorithm>

#include "krait/kernels/activation.h"
#include "krait/kernels/token_shift.h"

namespace krait::models {
namespace {

// Of the group norm, whatever the width of a head; no configuration names it.
constexpr float kGroupEpsilon = 64e-5F;

// A low-rank factor as [outputs, inputs]. The original files hold it the other way round: x @ w1. Where it stands like
// other matrices it goes by the name of one.
kernels::WeightMatrix load_factor(const WeightScope& scope, const std::string& name, std::int64_t outputs,
                                  std::int64_t inputs) {
  const std::string gguf_name = "time_mix_" + name + ".weight";
  if (scope.loader().is_gguf()) return scope.matrix(name, gguf_name, outputs, inputs);
  if (scope.has(name + ".weight", gguf_name)) return scope.matrix(name + ".weight", gguf_name, outputs, inputs);
  kernels::WeightMatrix factor;
  factor.rows = outputs;
  factor.columns = inputs;
  scope.loader().note_batch_dependence("low-rank factors in their authors' layout");
  factor.data = reinterpret_cast<const std::byte*>(scope.transposed(name, gguf_name, inputs, outputs));
  return factor;
}

}  // namespace

Rwkv7TimeMix::Rwkv7TimeMix(const WeightScope& scope, std::int64_t heads, std::int64_t head_width, bool first_layer,
                           const float* output_bias, StateLayout& layout, const std::string& state_name)
    : output_bias_(output_bias), first_layer_(first_layer) {
  scan_ = {.heads = heads, .head_width = head_width};
  const std::int64_t c = width();
  load_mixes(scope);
  receptance_ = scope.matrix("receptance.weight", "time_mix_receptance.weight", c, c);
  key_ = scope.matrix("key.weight", "time_mix_key.weight", c, c);
  value_ = scope.matrix("value.weight", "time_mix_value.weight", c, c);
  output_ = scope.matrix("output.weight", "time_mix_output.weight", c, c);
  decay_ = load_low_rank(scope, "w");
  rate_ = load_low_rank(scope, "a");
  gate_ = load_low_rank(scope, "g");
  if (!first_layer) {
    residual_ = load_low_rank(scope, "v");
    v0_ = scope.vector("v0", "time_mix_v0.weight", c);
  }
  gates_ = {.heads = heads,
            .w0 = scope.vector("w0", "time_mix_w0.weight", c),
            .a0 = scope.vector("a0", "time_mix_a0.weight", c),
            .k_k = scope.vector("k_k", "time_mix_k_k.weight", c),
            .k_a = scope.vector("k_a", "time_mix_k_a.weight", c)};
  r_k_ = scope.vector("r_k", "time_mix_r_k.weight", c);
  norm_ = {.weight = scope.vector("ln_x.weight", "time_mix_ln.weight", c),
           .bias = scope.vector("ln_x.bias", "time_mix_ln.bias", c),
           .epsilon = kGroupEpsilon,
           .groups = heads};
  if (scope.loader().failed()) return;
  shift_offset_ = layout.add(state_name + ".time_shift", {1, c}, DType::kF32, StateKind::kConvWindow);
  state_offset_ = layout.add(state_name + ".wkv", {heads, head_width, head_width}, DType::kF32, StateKind::kRecurrent);
}

void Rwkv7TimeMix::load_mixes(const WeightScope& scope) {
  // GGUF stacks them in this order: [6, 1, 1, C].
  constexpr std::array<const char*, kInputs> kNames = {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"};
  const std::int64_t c = width();
  if (!scope.loader().is_gguf()) {
    for (std::size_t i = 0; i < kInputs; ++i) mix_[i] = scope.vector(kNames[i], "", c);
    return;
  }
  const float* fused = scope.vector("", "time_mix_lerp_fused.weight", kInputs * c);
  for (std::size_t i = 0; i < kInputs && fused != nullptr; ++i) mix_[i] = fused + static_cast<std::int64_t>(i) * c;
}

Rwkv7TimeMix::LowRank Rwkv7TimeMix::load_low_rank(const WeightScope& scope, const std::string& letter) const {
  WeightLoader& loader = scope.loader();
  if (loader.failed()) return {};
  const std::string first = letter + "1", gguf_name = "time_mix_" + first + ".weight";
  const bool as_matrix = loader.is_gguf() || scope.has(first + ".weight", gguf_name);
  const std::string name = scope.name(as_matrix ? first + ".weight" : first, gguf_name);
  const Shape shape = loader.shape(name);
  if (loader.failed()) return {};
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) {
    loader.set_error({ErrorCode::kCorrupt,
                      fmt::format("[models] tensor {} has shape {}, expected a matrix", name, to_string(shape))});
    return {};
  }
  const std::int64_t rank = as_matrix ? shape[0] : shape[1];
  return {load_factor(scope, first, rank, width()), load_factor(scope, letter + "2", width(), rank)};
}

void Rwkv7TimeMix::forward(Step& step, kernels::RowsIn x, kernels::RowsOut first_value, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  ThreadPool& pool = step.pool();
  const std::int64_t c = width();

  std::array<kernels::TokenShift, kInputs> shifts;  // m_r … m_g, [M, C] each
  for (std::size_t i = 0; i < kInputs; ++i) shifts[i] = {mix_[i], step.rows(c)};
  kernels::token_shift(pool, x, step.sequences(shift_offset_), shifts);
  step.lap_rows("token shift", (1 + kInputs) * c);

  const auto product = [&](const char* name, kernels::RowsIn from, const kernels::WeightMatrix& weight) {
    const kernels::RowsOut to = step.rows(weight.rows);
    kernels::linear(pool, from, weight, nullptr, to);
    step.lap(name, weight);
    return to;
  };
  const kernels::RowsOut r = product("receptance", shifts[kR].y, receptance_);
  const kernels::RowsOut k = product("key", shifts[kK].y, key_);
  const kernels::RowsOut v = product("value", shifts[kV].y, value_);

  const kernels::RowsOut decay = product("low rank", shifts[kW].y, decay_.first);  // [M, rank]
  kernels::hyperbolic_tangent(pool, decay, decay);
  const kernels::RowsOut w = product("low rank", decay, decay_.second);
  const kernels::RowsOut a = product("low rank", product("low rank", shifts[kA].y, rate_.first), rate_.second);
  const kernels::RowsOut gate = product("low rank", shifts[kG].y, gate_.first);
  kernels::sigmoid(pool, gate, gate);
  const kernels::RowsOut g = product("low rank", gate, gate_.second);

  const kernels::RowsOut kappa = step.rows(c);
  kernels::rwkv7_gates(pool, gates_, w, a, k, kappa);
  if (first_layer_) {
    for (std::int64_t row = 0; row < v.rows; ++row) std::copy_n(v.row(row), c, first_value.row(row));
  } else {
    const kernels::RowsOut mix =
        product("low rank", product("low rank", shifts[kV].y, residual_.first), residual_.second);
    kernels::rwkv7_value_residual(pool, v0_, mix, first_value, v);
  }
  step.lap_rows("gates", 4 * c);

  const kernels::RowsOut y = step.rows(c);
  kernels::rwkv7_scan(pool, scan_, {.r = r, .w = w, .k = k, .v = v, .kappa = kappa, .b = a},
                      step.sequences(state_offset_), y);
  const std::int64_t state_values = c * scan_.head_width;
  // Of each state: a product with kappa, a decay, two outer products, a part of y.
  step.lap_scan("scan", static_cast<std::uint64_t>(state_values) * sizeof(float), 7 * c, 9 * state_values);
  kernels::layer_norm(pool, norm_, y, y);
  kernels::rwkv7_bonus_gate(pool, scan_.heads, r_k_, r, k, v, g, y);
  step.lap_rows("gated norm", 5 * c);
  kernels::linear(pool, y, output_, output_bias_, out);
  step.lap("output", output_);
}

}  // namespace krait::models
