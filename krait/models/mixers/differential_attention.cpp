#include "krait/models/mixers/differential_attention.h"

#include <cmath>

#include "krait/kernels/norm.h"

namespace krait::models {

DifferentialAttention::DifferentialAttention(const WeightScope& scope,
                                             const DifferentialAttentionDimensions& dimensions, StateLayout& layout,
                                             const std::string& state_name)
    : dimensions_(dimensions) {
  load(scope, (dimensions.heads + 2 * dimensions.key_heads) * dimensions.head_width);
  if (scope.loader().failed()) return;
  const std::string name = state_name + ".kv";
  offset_ = dimensions.window > 0 ? layout.add_ring(name, attention_.kv, dimensions.window)
                                  : layout.add_paged(name, attention_.kv);
}

DifferentialAttention::DifferentialAttention(const WeightScope& scope,
                                             const DifferentialAttentionDimensions& dimensions,
                                             const DifferentialAttention& source)
    : dimensions_(dimensions), offset_(source.offset_) {
  load(scope, dimensions.heads * dimensions.head_width);
}

void DifferentialAttention::load(const WeightScope& scope, std::int64_t rows) {
  const DifferentialAttentionDimensions& d = dimensions_;
  WeightLoader& loader = scope.loader();
  if (loader.failed()) return;
  if (d.key_heads % 2 != 0 || d.heads % d.key_heads != 0) {
    loader.set_error(
        {ErrorCode::kCorrupt, fmt::format("[models] {} query heads and {} key heads do not make pairs ({})", d.heads,
                                          d.key_heads, loader.config().origin())});
    return;
  }
  qkv_ = scope.matrix("Wqkv.weight", "", rows, d.width);
  qkv_bias_ = scope.vector_usually("Wqkv.bias", "", rows);
  output_ = scope.matrix("out_proj.weight", "", d.width, d.heads * d.head_width);
  output_bias_ = scope.vector_usually("out_proj.bias", "", d.width);
  const WeightScope inner = scope.inside("inner_cross_attn.");
  const double start = 0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(d.layer));
  float* norm = inner.vector("subln.weight", "", 2 * d.head_width);
  for (std::int64_t i = 0; norm != nullptr && i < 2 * d.head_width; ++i) norm[i] *= static_cast<float>(1.0 - start);
  norm_ = norm;
  double lambda = start;
  for (const auto& [query, key, sign] :
       {std::tuple{"lambda_q1", "lambda_k1", 1.0}, std::tuple{"lambda_q2", "lambda_k2", -1.0}}) {
    const float* const q = inner.vector(query, "", d.head_width);
    const float* const k = inner.vector(key, "", d.head_width);
    double product = 0.0;
    for (std::int64_t i = 0; q != nullptr && k != nullptr && i < d.head_width; ++i) product += double{q[i]} * k[i];
    lambda += sign * std::exp(product);
  }
  lambda_ = static_cast<float>(lambda);
  attention_ = {.kv = {.key_heads = d.key_heads,
                       .key_width = d.head_width,
                       .value_heads = d.key_heads / 2,
                       .value_width = 2 * d.head_width,
                       .dtype = loader.kv_dtype()},
                .query_heads = d.heads,
                .scale = 1.0F / std::sqrt(static_cast<float>(d.head_width)),
                .window = d.window};
}

void DifferentialAttention::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  const DifferentialAttentionDimensions& d = dimensions_;
  const std::int64_t queries = d.heads * d.head_width, keys = d.key_heads * d.head_width;
  const kernels::RowsOut qkv = step.rows(queries + 2 * keys);
  kernels::linear(step.pool(), u, qkv_, qkv_bias_, qkv);
  step.lap("qkv", qkv_);
  const kernels::RowsOut attended = step.rows(2 * queries);  // [M, Hq * 2P]
  const auto sequences =
      d.window > 0 ? step.ring_sequences(offset_, kernels::kv_ring_pages(d.window)) : step.paged_sequences(offset_);
  kernels::attention(step.pool(), attention_, qkv.slice_columns(0, queries), qkv.slice_columns(queries, keys),
                     qkv.slice_columns(queries + keys, keys), sequences, attended);
  step.lap_attention("attention", attention_);
  finish(step, attended, out);
}

void DifferentialAttention::forward_wanted(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  const std::int64_t queries = dimensions_.heads * dimensions_.head_width;
  const kernels::RowsOut q = step.workspace().rows(u.rows, queries);
  kernels::linear(step.pool(), u, qkv_, qkv_bias_, q);
  step.lap("qkv", qkv_, u.rows);
  const kernels::RowsOut attended = step.workspace().rows(u.rows, 2 * queries);
  kernels::attention(step.pool(), attention_, q, {}, {}, step.wanted_sequences(offset_), attended);
  step.lap_attention("attention", attention_);
  finish(step, attended, out);
}

void DifferentialAttention::finish(Step& step, kernels::RowsOut attended, kernels::RowsOut out) const {
  const std::int64_t width = 2 * dimensions_.head_width, pairs = dimensions_.heads / 2;
  // Pairs as rows: both maps' results one after the other.
  const kernels::RowsOut both(attended.data, attended.rows * pairs, 2 * width);
  const kernels::RowsOut mixed = step.workspace().rows(attended.rows, pairs * width);
  const kernels::RowsOut rows(mixed.data, both.rows, width);
  step.pool().parallel_for(both.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* const from = both.row(row);
      for (std::int64_t i = 0; i < width; ++i) rows.row(row)[i] = from[i] - lambda_ * from[width + i];
    }
  });
  kernels::rms_norm(step.pool(), rows, norm_, 1e-5F, rows);
  step.lap("difference", static_cast<std::uint64_t>(3 * rows.rows * width) * sizeof(float));
  kernels::linear(step.pool(), mixed, output_, output_bias_, out);
  step.lap("o_proj", output_, out.rows);
}

}  // namespace krait::models
