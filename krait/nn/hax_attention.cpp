#include "krait/nn/hax_attention.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>

#include "krait/kernels/hax_ranking_loss.h"
#include "krait/kernels/hax_sequence_backward.h"
#include "krait/kernels/reference/hax_sequence.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

kernels::Rows<const std::int32_t> token_rows(const Tensor& tokens) {
  return {tokens.data_ptr<std::int32_t>(), tokens.size(0), tokens.size(1)};
}

template <class Real>
kernels::HaxReads<Real> reads_of(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& scale,
                                 const Tensor& tokens) {
  return {.q = rows_in<Real>(q),
          .k = rows_in<Real>(k),
          .v = rows_in<Real>(v),
          .output_scale = values_of<Real>(scale),
          .tokens = token_rows(tokens)};
}

class HaxAttention : public torch::autograd::Function<HaxAttention> {
 public:
  // tokens: a block
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& output_scale, const Tensor& tokens, const Segments& segments) {
    const Tensor q_rows = as_rows(q), k_rows = as_rows(k), v_rows = as_rows(v), scale = as_block(output_scale);
    const Tensor y = at::zeros(v_rows.sizes(), v_rows.options());
    const auto sequences = sequences_of(segments);
    if (y.scalar_type() == at::kDouble) {
      kernels::reference::hax_sequence(reads_of<double>(q_rows, k_rows, v_rows, scale, tokens), sequences,
                                       rows_out<double>(y));
    } else {
      kernels::hax_sequence(ComputePool(), reads_of<float>(q_rows, k_rows, v_rows, scale, tokens), sequences,
                            rows_out<float>(y));
    }
    context->save_for_backward({q_rows, k_rows, v_rows, scale, tokens});
    context->saved_data["segments"] = to_list(segments);
    context->saved_data["key_shape"] = q.sizes().vec();
    context->saved_data["value_shape"] = v.sizes().vec();
    return y.view(v.sizes());
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &scale = saved[3], &tokens = saved[4];
    const Segments segments = from_list(context->saved_data["segments"].toIntVector());
    const Tensor dy = as_rows(upstream[0]);
    const auto like = [&](const Tensor& of) { return new_segment_rows(of, segments, of.size(0), of.size(1)); };
    const Tensor dq = like(q), dk = like(k), dv = like(v), d_scale = at::zeros_like(scale);
    const auto sequences = sequences_of(segments);
    if (dy.scalar_type() == at::kDouble) {
      kernels::reference::hax_sequence_backward(reads_of<double>(q, k, v, scale, tokens), sequences,
                                                rows_in<double>(dy),
                                                {.q = rows_out<double>(dq),
                                                 .k = rows_out<double>(dk),
                                                 .v = rows_out<double>(dv),
                                                 .output_scale = values_of<double>(d_scale)});
    } else {
      kernels::hax_sequence_backward(ComputePool(), reads_of<float>(q, k, v, scale, tokens), sequences,
                                     rows_in<float>(dy),
                                     {.q = rows_out<float>(dq),
                                      .k = rows_out<float>(dk),
                                      .v = rows_out<float>(dv),
                                      .output_scale = values_of<float>(d_scale)});
    }
    const auto key_shape = context->saved_data["key_shape"].toIntVector();
    return {dq.view(key_shape),
            dk.view(key_shape),
            dv.view(context->saved_data["value_shape"].toIntVector()),
            d_scale,
            Tensor(),
            Tensor()};
  }
};

using Drawn = std::vector<std::vector<std::int64_t>>;

class HaxRankingLoss : public torch::autograd::Function<HaxRankingLoss> {
 public:
  // targets f32, of the rows of all lists.
  static Tensor forward(AutogradContext* context, const Tensor& scores, const Tensor& targets, const Segments& segments,
                        const Drawn& drawn) {
    const Tensor rows = as_rows(scores);
    const double loss = with_real(rows, [&](auto real) {
      return kernels::hax_ranking_loss<decltype(real)>(rows_in<decltype(real)>(rows), drawn, span_of(targets));
    });
    context->save_for_backward({rows, targets});
    context->saved_data["segments"] = to_list(segments);
    c10::List<std::vector<std::int64_t>> lists;
    for (const auto& list : drawn) lists.push_back(list);
    context->saved_data["drawn"] = lists;
    context->saved_data["shape"] = scores.sizes().vec();
    return at::full({}, loss, rows.options());
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &rows = saved[0], &targets = saved[1];
    const auto sequences = sequences_of(from_list(context->saved_data["segments"].toIntVector()));
    Drawn drawn;
    const auto lists = context->saved_data["drawn"].toList();
    for (std::size_t i = 0; i < lists.size(); ++i) drawn.push_back(lists.get(i).toIntVector());
    const Tensor gradient = at::zeros(rows.sizes(), rows.options());
    with_real(rows, [&](auto real) {
      using Real = decltype(real);
      kernels::hax_ranking_loss_backward<Real>(rows_in<Real>(rows), sequences, drawn, span_of(targets),
                                               upstream[0].template item<double>(), rows_out<Real>(gradient));
    });
    return {gradient.view(context->saved_data["shape"].toIntVector()), Tensor(), Tensor(), Tensor()};
  }

 private:
  static std::span<const float> span_of(const Tensor& values) {
    return {values.data_ptr<float>(), static_cast<std::size_t>(values.numel())};
  }
};

void check_drawn(const Drawn& drawn, const Segments& segments) {
  if (drawn.size() != segments.size()) {
    throw UserError(fmt::format("tokens are drawn of {} segments", drawn.size()),
                    fmt::format("there are {}", segments.size()));
  }
  for (std::size_t i = 0; i < segments.size(); ++i) {
    std::vector<std::int64_t> sorted = drawn[i];
    std::ranges::sort(sorted);
    const bool outside = !sorted.empty() && (sorted.front() < segments[i].first_row ||
                                             sorted.back() >= segments[i].first_row + segments[i].rows);
    if (outside || std::ranges::adjacent_find(sorted) != sorted.end()) {
      throw UserError(fmt::format("rows [{}] are drawn of segment {}", fmt::join(drawn[i], ", "), i),
                      "each is a row of the segment, and none is drawn twice");
    }
  }
}

}  // namespace

Tensor hax_choose_tokens(const HaxChoice& choice, const Tensor& centred_q, const Tensor& centred_k,
                         const Tensor& scores, const Segments& segments) {
  const std::int64_t recent = choice.recent, selected = choice.selected;
  if (recent < 0 || selected < 0 || recent + selected < 1 || recent + selected > kernels::HaxAttention::kMostKeys) {
    throw UserError(fmt::format("HAX with {} recent and {} selected keys", recent, selected),
                    fmt::format("together they are 1 to {}", kernels::HaxAttention::kMostKeys));
  }
  // Hashes and scores are f32 for either type, as in inference.
  const auto plain = [](const Tensor& of) { return as_rows(of.detach().to(at::kFloat)); };
  kernels::HaxAttention hax{.recent = recent, .selected = selected};
  Tensor q, k, s, projection;
  if (recent > 0) {
    for (const auto& [tensor, name] : {std::pair(&choice.hash_projection, "the projection of hashes"),
                                       {&centred_q, "centred queries"},
                                       {&centred_k, "centred keys"}}) {
      if (!tensor->defined()) throw UserError(fmt::format("hashing without {}", name), "recent keys are found by them");
      check_real(*tensor, name);
    }
    check_shape(centred_k, centred_q.sizes(), "centred keys");
    check_shape(choice.hash_projection, {choice.hash_projection.size(0), centred_q.size(-1)},
                "the projection of hashes");
    hax.hashes = choice.hash_projection.size(0);
    hax.key_width = centred_q.size(-1);
    if (hax.hashes > kernels::HaxAttention::kMostHashes) {
      throw UserError(fmt::format("{} hashes", hax.hashes),
                      fmt::format("they are at most {}", kernels::HaxAttention::kMostHashes));
    }
    projection = choice.hash_projection.detach().to(at::kFloat).t().contiguous();
    hax.hash_projection = values_of<float>(projection);
    q = plain(centred_q);
    k = plain(centred_k);
  }
  if (selected > 0) {
    if (!scores.defined()) throw UserError("selection without scores", "keys are selected by them");
    check_real(scores, "scores");
    check_columns(scores, 1, "scores");
    s = plain(scores);
  }
  const std::int64_t rows = recent > 0 ? q.size(0) : s.size(0);
  if (selected > 0 && s.size(0) != rows) {
    throw UserError(fmt::format("{} scores for {} rows", s.size(0), rows), "each row has one");
  }
  check_segments(segments, rows);
  if (rows > std::numeric_limits<std::int32_t>::max()) {
    throw UserError(fmt::format("{} rows", rows), "HAX counts them in 32 bits");
  }
  const Tensor tokens = at::zeros({rows, 1 + recent + selected}, at::kInt);
  const auto sequences = sequences_of(segments);
  kernels::hax_choose_tokens(ComputePool(), hax, rows_in<float>(q), rows_in<float>(k), rows_in<float>(s), sequences,
                             {tokens.data_ptr<std::int32_t>(), tokens.size(0), tokens.size(1)});
  return tokens;
}

Tensor hax_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& output_scale,
                     const Tensor& tokens, const Segments& segments) {
  check_real(q, "q of HAX");
  check_same_type(k, q, "k of HAX");
  check_same_type(v, q, "v of HAX");
  check_same_type(output_scale, q, "HAX's scale");
  check_shape(k, q.sizes(), "k of HAX");
  const std::int64_t keys = q.dim() == 0 ? 0 : q.size(-1), values = v.dim() == 0 ? 0 : v.size(-1);
  if (keys == 0 || values == 0) throw UserError("HAX without columns", "keys and values have some");
  std::vector<std::int64_t> shape = q.sizes().vec();
  shape.back() = values;
  check_shape(v, shape, "v of HAX");
  check_shape(output_scale, {values}, "HAX's scale");
  const std::int64_t rows = q.numel() / keys;
  check_segments(segments, rows);
  if (tokens.scalar_type() != at::kInt || tokens.dim() != 2 || tokens.size(0) != rows || tokens.size(1) < 2) {
    throw UserError(fmt::format("HAX reads tokens of shape [{}]", fmt::join(tokens.sizes(), ", ")),
                    "they are what hax_choose_tokens gives for the same rows");
  }
  const Tensor lists = tokens.contiguous();
  for (const Segment& segment : segments) {
    for (std::int64_t row = segment.first_row; row < segment.first_row + segment.rows; ++row) {
      const std::int32_t* const list = lists.data_ptr<std::int32_t>() + row * lists.size(1);
      const bool fits = list[0] >= 0 && list[0] < lists.size(1) &&
                        std::all_of(
                            list + 1, list + 1 + list[0],
                            [&](std::int32_t token) {
                              return token >= segment.first_row && token < segment.first_row + segment.rows;
                            });
      if (!fits) {
        throw UserError(fmt::format("row {} of HAX reads {} tokens, or one of another segment", row, list[0]),
                        "they are what hax_choose_tokens gives for the same segments");
      }
    }
  }
  return HaxAttention::apply(q, k, v, output_scale, lists, segments);
}

Tensor hax_ranking_loss(const Tensor& scores, const Tensor& q, const Tensor& k, const Segments& segments,
                        const std::vector<std::vector<std::int64_t>>& drawn) {
  check_real(scores, "scores");
  check_columns(scores, 1, "scores");
  check_real(q, "q of a ranking loss");
  check_shape(k, q.sizes(), "k of a ranking loss");
  const Tensor q_rows = as_rows(q.detach().to(at::kFloat)), k_rows = as_rows(k.detach().to(at::kFloat));
  if (q_rows.size(0) != scores.numel()) {
    throw UserError(fmt::format("{} scores for {} queries", scores.numel(), q_rows.size(0)), "each row has one");
  }
  check_segments(segments, scores.numel());
  check_drawn(drawn, segments);
  std::int64_t count = 0;
  for (const auto& list : drawn) count += static_cast<std::int64_t>(list.size());
  const Tensor targets = at::empty({count}, q_rows.options());
  const auto sequences = sequences_of(segments);
  kernels::hax_ranking_targets(ComputePool(), rows_in<float>(q_rows), rows_in<float>(k_rows), sequences, drawn,
                               {targets.data_ptr<float>(), static_cast<std::size_t>(count)});
  return HaxRankingLoss::apply(scores, targets, segments, drawn);
}

}  // namespace krait::nn
