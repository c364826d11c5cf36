#include "krait/nn/hax_mixer.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <numeric>

#include "krait/core/random.h"
#include "krait/kernels/hax_attention.h"
#include "krait/kernels/running_mean.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/hax_attention.h"
#include "krait/nn/prefix_rows.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// y as it is; backwards, `loss` is as if it had been added, with `weight`, to whatever y leads to.
class WithLoss : public torch::autograd::Function<WithLoss> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& y, const Tensor& loss, double weight) {
    context->saved_data["weight"] = weight;
    context->save_for_backward({loss});
    return y.view_as(y);
  }
  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const Tensor loss = context->get_saved_variables()[0];
    return {upstream[0], at::full_like(loss, context->saved_data["weight"].toDouble()), Tensor()};
  }
};

struct RunningMean {
  Tensor centred, mean;  // f32 [M, N]
};

// The kernel of inference, so that training chooses what inference does. No gradient.
RunningMean running_mean(const Tensor& x, const Segments& segments) {
  const Tensor rows = as_rows(x.detach().to(at::kFloat));
  const RunningMean result = {at::zeros_like(rows), at::zeros_like(rows)};
  std::vector<std::int64_t> positions(static_cast<std::size_t>(rows.size(0)));
  for (const Segment& segment : segments) {
    const auto first = positions.begin() + segment.first_row;
    std::iota(first, first + segment.rows, std::int64_t{0});
  }
  const Tensor states = at::zeros({static_cast<std::int64_t>(segments.size()), rows.size(1)}, rows.options());
  kernels::running_mean(ComputePool(), rows_in<float>(rows), positions, sequences_of(segments, states),
                        rows_out<float>(result.centred), rows_out<float>(result.mean));
  return result;
}

// Of each segment `count` of its rows, or all where it has no more.
std::vector<std::vector<std::int64_t>> draw_rows(const Segments& segments, std::int64_t count, std::uint64_t pass) {
  Random random(pass);
  std::vector<std::vector<std::int64_t>> drawn;
  for (const Segment& segment : segments) {
    std::vector<std::int64_t>& rows = drawn.emplace_back(static_cast<std::size_t>(segment.rows));
    std::iota(rows.begin(), rows.end(), segment.first_row);
    const std::size_t wanted = std::min(rows.size(), static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < wanted; ++i) std::swap(rows[i], rows[i + random.next() % (rows.size() - i)]);
    rows.resize(wanted);
  }
  return drawn;
}

}  // namespace

HaxMixer::HaxMixer(const HaxDimensions& dimensions) : Mamba1Mixer(dimensions.mamba), dimensions_(dimensions) {
  HaxDimensions& of = dimensions_;
  of.mamba = Mamba1Mixer::dimensions();
  if (of.recent < 0 || of.selected < 0 || of.recent + of.selected < 1 ||
      of.recent + of.selected > kernels::HaxAttention::kMostKeys) {
    throw UserError(fmt::format("HAX with {} recent and {} selected keys", of.recent, of.selected),
                    fmt::format("together they are 1 to {}", kernels::HaxAttention::kMostKeys));
  }
  if (of.recent > 0 && (of.hashes < 1 || of.hashes > kernels::HaxAttention::kMostHashes)) {
    throw UserError(fmt::format("HAX with {} hashes", of.hashes),
                    fmt::format("there are 1 to {}", kernels::HaxAttention::kMostHashes));
  }
  const std::int64_t states = of.mamba.states;
  xx_proj_ = register_module("xx_proj", std::make_shared<Dense>(of.mamba.inner, 2 * states));
  output_scale_ = register_parameter("E", at::ones({of.mamba.inner}));
  if (of.recent > 0) {
    hash_projection_ = register_parameter("hash_projection", at::empty({of.hashes, states}).normal_());
  }
  if (of.selected > 0) {
    score_hidden_ = register_module("dx_proj_1", std::make_shared<Dense>(2 * states, 2 * states, true));
    score_next_ = register_module("dx_proj_2", std::make_shared<Dense>(2 * states, 2 * states, true));
    score_ = register_module("dx_proj_3", std::make_shared<Dense>(2 * states, 1, true));
  }
}

HaxMixer::Heads HaxMixer::heads(const Tensor& x) const {
  const std::int64_t states = dimensions_.mamba.states;
  const auto parts = split_columns(xx_proj_->forward(x), {states, states});
  return {.q = parts[1], .k = parts[0] / std::sqrt(static_cast<double>(states))};
}

Tensor HaxMixer::scores(const Heads& of, const Tensor& query_mean) const {
  // The mean's length becomes 1; a mean of zero stays.
  const Tensor mean = query_mean.to(of.q.scalar_type());
  const Tensor unit = mean / (mean.square().sum(1, true) + 1e-24).sqrt();
  const Tensor features = at::cat({of.k.detach(), unit}, 1);
  return score_->forward(at::relu(score_next_->forward(at::relu(score_hidden_->forward(features)))));
}

Tensor HaxMixer::ranking_loss(const Heads& of, const Tensor& key_scores, const Batch& batch) const {
  // As many rows as are read, as in the published code.
  const std::int64_t count = dimensions_.recent + dimensions_.selected;
  return hax_ranking_loss(key_scores, of.q, of.k, batch.segments, draw_rows(batch.segments, count, batch.pass));
}

Tensor HaxMixer::ranking_loss(const Tensor& x, const Batch& batch) const {
  const Heads of = heads(x);
  return ranking_loss(of, scores(of, running_mean(of.q, batch.segments).mean), batch);
}

Tensor HaxMixer::addition(const Tensor& x, const Batch& batch) const {
  if (has_prefixes(batch)) {
    throw UserError("HAX on a batch with prefixes", "its layers choose from the tokens before, and so are causal");
  }
  const Segments& segments = batch.segments;
  const Heads of = heads(x);
  const RunningMean queries = running_mean(of.q, segments);
  Tensor centred_k, key_scores;
  if (dimensions_.recent > 0) centred_k = running_mean(of.k, segments).centred;
  if (dimensions_.selected > 0) key_scores = scores(of, queries.mean);
  const Tensor tokens = hax_choose_tokens(
      {.hash_projection = hash_projection_, .recent = dimensions_.recent, .selected = dimensions_.selected},
      queries.centred, centred_k, key_scores, segments);
  const Tensor y = hax_attention(of.q, of.k, x, output_scale_, tokens, segments);
  const double weight = dimensions_.ranking_weight * batch.own_losses;
  if (weight == 0.0 || !key_scores.defined() || !key_scores.requires_grad()) return y;
  return WithLoss::apply(y, ranking_loss(of, key_scores, batch), weight);
}

}  // namespace krait::nn
