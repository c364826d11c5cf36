#include "krait/models/mixers/rwkv7_channel_mix.h"

#include "krait/kernels/activation.h"
#include "krait/kernels/token_shift.h"

namespace krait::models {

Rwkv7ChannelMix::Rwkv7ChannelMix(const WeightScope& scope, std::int64_t width, StateLayout& layout,
                                 const std::string& state_name) {
  WeightLoader& loader = scope.loader();
  if (loader.failed()) return;
  const Shape shape = loader.shape(scope.name("key.weight", "channel_mix_key.weight"));
  const std::int64_t inner = shape.empty() ? 0 : shape.front();
  mix_ = scope.vector("x_k", "channel_mix_lerp_k.weight", width);
  key_ = scope.matrix("key.weight", "channel_mix_key.weight", inner, width);
  value_ = scope.matrix("value.weight", "channel_mix_value.weight", width, inner);
  if (loader.failed()) return;
  shift_offset_ = layout.add(state_name + ".channel_shift", {1, width}, DType::kF32, StateKind::kConvWindow);
}

void Rwkv7ChannelMix::forward(Step& step, kernels::RowsIn x, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  ThreadPool& pool = step.pool();
  const kernels::TokenShift shift{mix_, step.rows(x.columns)};
  kernels::token_shift(pool, x, step.sequences(shift_offset_), {&shift, 1});
  step.lap_rows("token shift", 2 * x.columns);
  const kernels::RowsOut inner = step.rows(key_.rows);
  kernels::linear(pool, shift.y, key_, nullptr, inner);
  step.lap("channel key", key_);
  kernels::squared_relu(pool, inner, inner);
  step.lap_rows("squared relu", key_.rows);
  kernels::linear(pool, inner, value_, nullptr, out);
  step.lap("channel value", value_);
}

}  // namespace krait::models
