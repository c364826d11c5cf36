#include "krait/models/mixers/attention.h"

#include "krait/kernels/activation.h"

namespace krait::models {

AttentionMixer::AttentionMixer(const WeightScope& scope, const AttentionDimensions& dimensions, StateLayout& layout,
                               const std::string& state_name, const AttentionNames& names)
    : dimensions_(dimensions),
      heads_(scope, dimensions, names),
      output_(AttentionOutput::load(scope, dimensions, names)),
      attention_(heads_.attention(scope.loader().kv_dtype())) {
  if (!scope.loader().failed()) add_cache(layout, state_name);
}

AttentionMixer AttentionMixer::again(StateLayout& layout, const std::string& state_name) const {
  AttentionMixer other = *this;
  other.heads_.drop_adapters();
  other.add_cache(layout, state_name);
  return other;
}

void AttentionMixer::add_cache(StateLayout& layout, const std::string& state_name) {
  const auto& d = dimensions_;
  offset_ = d.window > 0 ? layout.add_ring(state_name + ".kv", attention_.kv, d.window)
                         : layout.add_paged(state_name + ".kv", attention_.kv);
}

void AttentionMixer::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  const auto& d = dimensions_;
  const AttentionHeads::Rows rows = heads_.project(step, u, u);
  const kernels::RowsOut attended = step.rows(d.heads * d.head_width);  // [M, Hq*P]
  const auto sequences =
      d.window > 0 ? step.ring_sequences(offset_, kernels::kv_ring_pages(d.window)) : step.paged_sequences(offset_);
  kernels::attention(step.pool(), attention_, rows.q, rows.k, rows.v, sequences, attended);
  step.lap_attention("attention", attention_);
  if (d.output_gate) {
    const kernels::RowsOut values(attended.data, attended.rows * d.heads, d.head_width);
    const kernels::RowsIn gate(rows.projected.data + d.head_width, values.rows, d.head_width, 2 * d.head_width);
    kernels::sigmoid_gate(step.pool(), values, gate, values);
  }
  output_.forward(step, attended, out);
}

}  // namespace krait::models
