#include "krait/models/mixers/mamba3.h"

#include <bit>

namespace krait::models {

Mamba3Mixer::Mamba3Mixer(const WeightScope& scope, const Mamba3Dimensions& dimensions, StateLayout& layout,
                         const std::string& state_name)
    : dimensions_(dimensions) {
  const std::int64_t heads = dimensions.heads, rank = dimensions.rank, states = dimensions.states;
  if (heads % dimensions.groups != 0) {
    scope.loader().set_error(
        {ErrorCode::kCorrupt, fmt::format("[models] {} heads do not divide into {} groups", heads, dimensions.groups)});
    return;
  }
  // Chunks of the scan are of 64 / rank rows; cuts at multiples of 64 have to be their ends.
  if (!std::has_single_bit(static_cast<std::uint64_t>(rank))) {
    scope.loader().note_batch_dependence(fmt::format("rank {}, which is no power of two", rank));
  }
  in_proj_ =
      scope.matrix("in_proj.weight", "", 2 * inner() + 2 * inputs() + 3 * heads + dimensions.angles, dimensions.width);
  out_proj_ = scope.matrix("out_proj.weight", "", dimensions.width, inner());
  scan_.heads = heads;
  scan_.head_width = dimensions.head_width;
  scan_.states = states;
  scan_.groups = dimensions.groups;
  scan_.rank = rank;
  scan_.angles = dimensions.angles;
  scan_.halves = dimensions.mimo;
  scan_.decay_floor = dimensions.decay_floor;
  scan_.dt_bias = scope.vector("dt_bias", "", heads);
  scan_.b_norm = scope.vector("B_norm.weight", "", states);
  scan_.c_norm = scope.vector("C_norm.weight", "", states);
  scan_.b_bias = scope.vector("B_bias", "", heads * rank * states);
  scan_.c_bias = scope.vector("C_bias", "", heads * rank * states);
  scan_.d = scope.vector("D", "", heads);
  if (dimensions.mimo) {
    scan_.value_mix = scope.vector("mimo_x", "", rank * inner());
    scan_.gate_mix = scope.vector("mimo_z", "", rank * inner());
    scan_.out_mix = scope.vector("mimo_o", "", rank * inner());
  }
  if (dimensions.output_norm) scan_.norm = scope.vector("norm.weight", "", inner());
  scan_.state_dtype = scope.loader().state_dtype();
  if (scope.loader().failed()) return;
  state_offset_ =
      layout.add(state_name + ".ssm", {heads, states, dimensions.head_width}, scan_.state_dtype, StateKind::kRecurrent);
  const auto after = [&](const char* part, const Shape& shape) {
    return static_cast<std::int64_t>(layout.add(state_name + part, shape, DType::kF32, StateKind::kRecurrent) -
                                     state_offset_);
  };
  scan_.angle_offset = after(".angle", {heads, dimensions.angles});
  scan_.key_offset = after(".key", {heads, rank, states});
  scan_.value_offset = after(".value", {heads, dimensions.head_width});
  state_bytes_ = layout.bytes() - state_offset_;
}

void Mamba3Mixer::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  const std::int64_t heads = dimensions_.heads;
  const kernels::RowsOut projected = step.rows(in_proj_.rows);
  kernels::linear(step.pool(), u, in_proj_, nullptr, projected);
  step.lap("in_proj", in_proj_);
  std::int64_t column = 0;
  const auto take = [&](std::int64_t count) {
    column += count;
    return kernels::RowsIn(projected.slice_columns(column - count, count));
  };
  kernels::TrapezoidalInputs in;
  in.z = take(inner());
  in.x = take(inner());
  in.b = take(inputs());
  in.c = take(inputs());
  in.dt = take(heads);
  in.a = take(heads);
  in.trap = take(heads);
  in.angle = take(dimensions_.angles);

  const kernels::RowsOut y = step.rows(inner());
  kernels::trapezoidal_scan(step.pool(), scan_, in, step.sequences(state_offset_), y);
  // Of each state of the plain recurrence: a decay, two inputs and a part of y for each of R.
  step.lap_scan("scan", state_bytes_, in_proj_.rows + inner(),
                (1 + 6 * dimensions_.rank) * inner() * dimensions_.states);
  kernels::linear(step.pool(), y, out_proj_, nullptr, out);
  step.lap("out_proj", out_proj_);
}

}  // namespace krait::models
