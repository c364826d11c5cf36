#include "krait/models/mixers/attention_heads.h"

#include <cmath>
#include <vector>

#include "krait/kernels/norm.h"

namespace krait::models {

AttentionHeads::AttentionHeads(const WeightScope& scope, const AttentionDimensions& dimensions,
                               const AttentionNames& names)
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
  if (d.biases) {
    const std::int64_t keys = d.key_heads * d.head_width;
    query_bias_ = scope.vector_if_present(names.query + ".bias", "attn_q.bias", query_.rows);
    key_bias_ = scope.vector_if_present(names.key + ".bias", "attn_k.bias", keys);
    value_bias_ = scope.vector_if_present(names.value + ".bias", "attn_v.bias", keys);
  }
  if (d.norms) {
    for (const auto& [norm, name, gguf] : {std::tuple{&query_norm_, &names.query_norm, "attn_q_norm.weight"},
                                           std::tuple{&key_norm_, &names.key_norm, "attn_k_norm.weight"}}) {
      float* weight = scope.vector(*name + ".weight", gguf, d.head_width);
      if (d.norms_from_one) loader.add_one(weight, d.head_width);
      *norm = weight;
    }
  }
}

void AttentionHeads::load_projections(const WeightScope& scope, const AttentionNames& names) {
  const auto& d = dimensions_;
  const std::int64_t queries = d.heads * d.head_width, keys = d.key_heads * d.head_width;
  const std::int64_t inputs = d.input_width;
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

kernels::Attention AttentionHeads::attention(DType kv_dtype) const {
  const auto& d = dimensions_;
  return {.kv = {.key_heads = d.key_heads,
                 .key_width = d.head_width,
                 .value_heads = d.key_heads,
                 .value_width = d.head_width,
                 .dtype = kv_dtype},
          .query_heads = d.heads,
          .scale = d.scale != 0.0F ? d.scale : 1.0F / std::sqrt(static_cast<float>(d.head_width)),
          .window = d.window};
}

AttentionHeads::Rows AttentionHeads::project(Step& step, kernels::RowsIn u, kernels::RowsIn memory) const {
  ThreadPool& pool = step.pool();
  const auto& d = dimensions_;
  const std::int64_t rows = step.row_count(), width = d.head_width;
  Rows result;
  if (!u.empty()) result.q = result.projected = step.rows(query_.rows);
  result.k = step.rows(d.key_heads * width);
  result.v = step.rows(d.key_heads * width);
  const kernels::GroupedProduct query = {.weight = &query_, .bias = query_bias_, .y = result.projected};
  const std::array<kernels::GroupedProduct, 3> products = {{{.weight = &key_, .bias = key_bias_, .y = result.k},
                                                            {.weight = &value_, .bias = value_bias_, .y = result.v},
                                                            query}};
  const bool together = u.data == memory.data;
  kernels::linear_group(pool, memory, {products.data(), together ? 3U : 2U});
  if (!together && !u.empty()) kernels::linear_group(pool, u, {&query, 1});
  if (u.empty()) {
    step.lap("kv", {&key_, &value_}, rows);
  } else {
    step.lap("qkv", {&query_, &key_, &value_}, rows);
  }
  if (adapters_) {
    if (!u.empty()) (*adapters_)[0].add(step, u, result.projected);
    (*adapters_)[1].add(step, memory, result.k);
    (*adapters_)[2].add(step, memory, result.v);
  }

  if (!u.empty()) {
    // Queries of each head as a row: with a gate, every other P columns.
    const std::int64_t stride = d.output_gate ? 2 * width : width;
    const kernels::RowsOut heads(result.projected.data, rows * d.heads, width, stride);
    if (d.norms || d.output_gate) result.q = step.rows(d.heads * width);
    const kernels::RowsOut q_heads(result.q.data, rows * d.heads, width);
    if (d.norms) {
      kernels::rms_norm(pool, heads, query_norm_, d.norm_epsilon, q_heads);
    } else if (d.output_gate) {
      for (std::int64_t i = 0; i < heads.rows; ++i) std::copy_n(heads.row(i), width, q_heads.row(i));
    }
  }
  if (d.norms) {
    const kernels::RowsOut k_heads(result.k.data, rows * d.key_heads, width);
    kernels::rms_norm(pool, k_heads, key_norm_, d.norm_epsilon, k_heads);
  }
  if (d.rotary.width > 0) {
    const kernels::RowsIn table = step.rotary_table(d.rotary);
    if (!u.empty()) kernels::rotate(pool, d.rotary, table, width, result.q);
    kernels::rotate(pool, d.rotary, table, width, result.k);
  }
  step.lap_rows("rotate", result.q.columns + result.k.columns);
  return result;
}

AttentionOutput AttentionOutput::load(const WeightScope& scope, const AttentionDimensions& dimensions,
                                      const AttentionNames& names) {
  const auto& d = dimensions;
  AttentionOutput output;
  if (scope.loader().failed()) return output;
  output.weight = scope.matrix(names.output + ".weight", "attn_output.weight", d.width, d.heads * d.head_width);
  output.weight.scale *= d.output_factor;
  if (d.biases && d.output_bias)
    output.bias = scope.vector_if_present(names.output + ".bias", "attn_output.bias", d.width);
  return output;
}

void AttentionOutput::forward(Step& step, kernels::RowsIn attended, kernels::RowsOut out) const {
  kernels::linear(step.pool(), attended, weight, bias, out);
  step.lap("o_proj", weight);
}

}  // namespace krait::models
