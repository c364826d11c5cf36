#include "krait/models/mixers/attention.h"

#include <array>
#include <cmath>

#include "krait/kernels/activation.h"
#include "krait/kernels/norm.h"

namespace krait::models {

AttentionMixer::AttentionMixer(const WeightScope& scope, const AttentionDimensions& dimensions, StateLayout& layout,
                               const std::string& state_name, const AttentionNames& names)
    : dimensions_(dimensions) {
  WeightLoader& loader = scope.loader();
  const auto& d = dimensions_;
  if (loader.failed()) return;
  if (d.heads % d.key_heads != 0) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] {} query heads do not divide into {} of keys ({})",
                                                       d.heads, d.key_heads, loader.config().origin())});
    return;
  }
  if (d.rotary.width % 2 != 0 || d.rotary.width > d.head_width) {
    loader.set_error({ErrorCode::kCorrupt, fmt::format("[models] rotary positions of {} components in heads of {} ({})",
                                                       d.rotary.width, d.head_width, loader.config().origin())});
    return;
  }
  if (dimensions_.input_width == 0) dimensions_.input_width = d.width;
  load_projections(scope, names);
  query_.scale *= d.input_factor;
  key_.scale *= d.input_factor * d.key_factor;
  value_.scale *= d.input_factor;
  output_.scale *= d.output_factor;
  if (d.biases) {
    const std::int64_t keys = d.key_heads * d.head_width;
    query_bias_ = scope.vector_if_present(names.query + ".bias", "attn_q.bias", query_.rows);
    key_bias_ = scope.vector_if_present(names.key + ".bias", "attn_k.bias", keys);
    value_bias_ = scope.vector_if_present(names.value + ".bias", "attn_v.bias", keys);
    if (d.output_bias) output_bias_ = scope.vector_if_present(names.output + ".bias", "attn_output.bias", d.width);
  }
  if (d.norms) {
    for (const auto& [norm, name, gguf] : {std::tuple{&query_norm_, &names.query_norm, "attn_q_norm.weight"},
                                           std::tuple{&key_norm_, &names.key_norm, "attn_k_norm.weight"}}) {
      float* weight = scope.vector(*name + ".weight", gguf, d.head_width);
      if (d.norms_from_one) loader.add_one(weight, d.head_width);
      *norm = weight;
    }
  }
  attention_.kv = {.key_heads = d.key_heads,
                   .key_width = d.head_width,
                   .value_heads = d.key_heads,
                   .value_width = d.head_width,
                   .dtype = loader.kv_dtype()};
  attention_.query_heads = d.heads;
  attention_.scale = d.scale != 0.0F ? d.scale : 1.0F / std::sqrt(static_cast<float>(d.head_width));
  attention_.window = d.window;
  if (!loader.failed()) add_cache(layout, state_name);
}

void AttentionMixer::load_projections(const WeightScope& scope, const AttentionNames& names) {
  const auto& d = dimensions_;
  const std::int64_t queries = d.heads * d.head_width, keys = d.key_heads * d.head_width;
  const std::int64_t inputs = d.input_width;
  output_ = scope.matrix(names.output + ".weight", "attn_output.weight", d.width, queries);
  if (names.fused.empty()) {
    const std::int64_t query_rows = d.output_gate ? 2 * queries : queries;
    query_ = scope.matrix(names.query + ".weight", "attn_q.weight", query_rows, inputs);
    key_ = scope.matrix(names.key + ".weight", "attn_k.weight", keys, inputs);
    value_ = scope.matrix(names.value + ".weight", "attn_v.weight", keys, inputs);
    return;
  }
  if (!scope.loader().rows_are_sound(scope.name(names.fused + ".weight", ""), queries + 2 * keys)) return;
  const std::int64_t group = d.heads / d.key_heads;
  MatrixOptions query, key, value;
  query.rows.all = key.rows.all = value.rows.all = queries + 2 * keys;
  for (std::int64_t row = 0; row < queries + 2 * keys; ++row) {
    const std::int64_t head = row / d.head_width % (group + 2);
    (head < group ? query : head == group ? key : value).rows.order.push_back(row);
  }
  query_ = scope.matrix(names.fused + ".weight", "", queries, inputs, query);
  key_ = scope.matrix(names.fused + ".weight", "", keys, inputs, key);
  value_ = scope.matrix(names.fused + ".weight", "", keys, inputs, value);
}

AttentionMixer AttentionMixer::again(StateLayout& layout, const std::string& state_name) const {
  AttentionMixer other = *this;
  other.adapters_.reset();
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
  ThreadPool& pool = step.pool();
  const auto& d = dimensions_;
  const std::int64_t rows = step.row_count(), width = d.head_width;
  const kernels::RowsOut projected = step.rows(query_.rows);     // [M, Hq*P], with a gate [M, Hq*2P]
  const kernels::RowsOut k = step.rows(d.key_heads * width);     // [M, Hk*P]
  const kernels::RowsOut v = step.rows(d.key_heads * width);     // [M, Hk*P]
  const kernels::RowsOut attended = step.rows(d.heads * width);  // [M, Hq*P]
  const std::array<kernels::GroupedProduct, 3> products = {{{.weight = &query_, .bias = query_bias_, .y = projected},
                                                            {.weight = &key_, .bias = key_bias_, .y = k},
                                                            {.weight = &value_, .bias = value_bias_, .y = v}}};
  kernels::linear_group(pool, u, products);
  step.lap("qkv", {&query_, &key_, &value_}, rows);
  if (adapters_) {
    (*adapters_)[0].add(step, u, projected);
    (*adapters_)[1].add(step, u, k);
    (*adapters_)[2].add(step, u, v);
  }

  // Queries of each head as a row: with a gate, every other P columns.
  const std::int64_t stride = d.output_gate ? 2 * width : width;
  const kernels::RowsOut heads(projected.data, rows * d.heads, width, stride);
  kernels::RowsOut q = projected;
  if (d.norms || d.output_gate) q = step.rows(d.heads * width);
  const kernels::RowsOut q_heads(q.data, rows * d.heads, width);
  if (d.norms) {
    kernels::rms_norm(pool, heads, query_norm_, d.norm_epsilon, q_heads);
    const kernels::RowsOut k_heads(k.data, rows * d.key_heads, width);
    kernels::rms_norm(pool, k_heads, key_norm_, d.norm_epsilon, k_heads);
  } else if (d.output_gate) {
    for (std::int64_t i = 0; i < heads.rows; ++i) std::copy_n(heads.row(i), width, q_heads.row(i));
  }
  if (d.rotary.width > 0) {
    const kernels::RowsIn table = step.rotary_table(d.rotary);
    kernels::rotate(pool, d.rotary, table, width, q);
    kernels::rotate(pool, d.rotary, table, width, k);
  }
  step.lap_rows("rotate", q.columns + k.columns);
  const auto sequences =
      d.window > 0 ? step.ring_sequences(offset_, kernels::kv_ring_pages(d.window)) : step.paged_sequences(offset_);
  kernels::attention(pool, attention_, q, k, v, sequences, attended);
  step.lap_attention("attention", attention_);
  if (d.output_gate) {
    const kernels::RowsOut values(attended.data, rows * d.heads, width);
    kernels::sigmoid_gate(pool, values, kernels::RowsIn(projected.data + width, heads.rows, width, stride), values);
  }
  kernels::linear(pool, attended, output_, output_bias_, out);
  step.lap("o_proj", output_);
}

}  // namespace krait::models
