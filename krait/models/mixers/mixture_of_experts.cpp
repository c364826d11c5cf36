#include "krait/models/mixers/mixture_of_experts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "krait/kernels/activation.h"

namespace krait::models {

MixtureOfExperts::MixtureOfExperts(const WeightScope& scope, const MixtureDimensions& dimensions,
                                   const MixtureNames& names)
    : dimensions_(dimensions) {
  WeightLoader& loader = scope.loader();
  const MixtureDimensions& d = dimensions_;
  if (loader.failed()) return;
  if (d.chosen > d.experts || d.groups < 1 || d.experts % d.groups != 0 || d.chosen_groups > d.groups) {
    loader.set_error(
        {ErrorCode::kCorrupt, fmt::format("[models] {} of {} experts in {} of {} groups ({})", d.chosen, d.experts,
                                          d.chosen_groups, d.groups, loader.config().origin())});
    return;
  }
  router_ = scope.matrix(names.router, "ffn_gate_inp.weight", d.experts, d.width);
  router_bias_ = scope.vector_if_present(names.router_bias, "exp_probs_b.bias", d.experts);
  if (d.latent > 0) {
    latent_in_ = scope.matrix("fc1_latent_proj.weight", "ffn_latent_down.weight", d.latent, d.width);
    latent_out_ = scope.matrix("fc2_latent_proj.weight", "ffn_latent_up.weight", d.width, d.latent);
  }
  load_experts(scope, names);
  if (d.shared_hidden > 0) {
    shared_.emplace(scope.inside(names.shared), d.width, d.shared_hidden, names.shared_form, d.activation,
                    names.shared_names);
    if (d.shared_gate) shared_gate_ = scope.matrix(names.shared_gate, "ffn_gate_inp_shexp.weight", 1, d.width);
  }
}

void MixtureOfExperts::load_experts(const WeightScope& scope, const MixtureNames& names) {
  const MixtureDimensions& d = dimensions_;
  const WeightLoader& loader = scope.loader();
  const std::int64_t width = d.latent > 0 ? d.latent : d.width;
  const bool gated = d.form != FeedForwardForm::kUngated;
  const bool stacked = loader.is_gguf() || scope.has(names.stacked_in, "") || names.always_stacked;
  const bool fused = gated && (loader.is_gguf() ? scope.has("", "ffn_gate_up_exps.weight") : stacked);
  const double share = static_cast<double>(d.chosen) / static_cast<double>(d.experts);
  for (std::int64_t e = 0; e < d.experts && !loader.failed(); ++e) {
    // An expert's own matrix, or its slice of a stack.
    const auto load = [&](std::string_view part, const std::string& stack, std::string_view gguf, std::int64_t rows,
                          std::int64_t columns) {
      MatrixOptions how = {.rows = {}, .read_share = share};
      if (!stacked) return scope.matrix(fmt::format("experts.{}.{}.weight", e, part), "", rows, columns, how);
      how.rows = {.all = d.experts * rows, .first = e * rows, .order = {}};
      how.gguf_scale = !fused || gguf == "ffn_down_exps.weight";
      return scope.matrix(stack, gguf, rows, columns, how);
    };
    kernels::WeightMatrix gate, up;
    if (fused) {
      up = load("", names.stacked_in, "ffn_gate_up_exps.weight", 2 * d.hidden, width);
    } else {
      if (gated) gate = load("gate_proj", "", "ffn_gate_exps.weight", d.hidden, width);
      up = load("up_proj", names.stacked_in, "ffn_up_exps.weight", d.hidden, width);
    }
    const kernels::WeightMatrix down = load("down_proj", names.stacked_down, "ffn_down_exps.weight", width, d.hidden);
    const FeedForwardForm form = fused ? FeedForwardForm::kFusedGateFirst : d.form;
    experts_.emplace_back(form, d.activation, gate, up, down);
  }
}

void MixtureOfExperts::choose(float* scores, Choice* chosen) const {
  const MixtureDimensions& d = dimensions_;
  if (d.scores == RouterScores::kSoftmax) {
    const float largest = *std::max_element(scores, scores + d.experts);
    float sum = 0.0F;
    for (std::int64_t e = 0; e < d.experts; ++e) sum += scores[e] = std::exp(scores[e] - largest);
    for (std::int64_t e = 0; e < d.experts; ++e) scores[e] /= sum;
  } else {
    for (std::int64_t e = 0; e < d.experts; ++e) scores[e] = 1.0F / (1.0F + std::exp(-scores[e]));
  }
  thread_local std::vector<float> worth;
  worth.assign(scores, scores + d.experts);
  if (router_bias_ != nullptr) {
    for (std::int64_t e = 0; e < d.experts; ++e) worth[static_cast<std::size_t>(e)] += router_bias_[e];
  }
  // What is no number, of a row or of a file, has no place in an order.
  const auto ordered = [](float v) { return std::isnan(v) ? -std::numeric_limits<float>::infinity() : v; };
  std::ranges::transform(worth, worth.begin(), ordered);
  thread_local std::vector<std::int32_t> order;
  if (d.groups > 1) {
    const std::int64_t size = d.experts / d.groups;
    std::vector<float> best(static_cast<std::size_t>(d.groups));
    for (std::int64_t g = 0; g < d.groups; ++g) {
      float first = -std::numeric_limits<float>::infinity(), second = first;
      for (std::int64_t e = g * size; e < (g + 1) * size; ++e) {
        const float w = worth[static_cast<std::size_t>(e)];
        second = std::max(second, std::min(first, w));
        first = std::max(first, w);
      }
      best[static_cast<std::size_t>(g)] = ordered(size > 1 ? first + second : first);
    }
    order.resize(static_cast<std::size_t>(d.groups));
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order, [&](std::int32_t a, std::int32_t b) {
      const float left = best[static_cast<std::size_t>(a)], right = best[static_cast<std::size_t>(b)];
      return left > right || (left == right && a < b);
    });
    for (std::int64_t i = d.chosen_groups; i < d.groups; ++i) {
      const std::int64_t group = order[static_cast<std::size_t>(i)];
      std::fill_n(worth.begin() + group * size, size, -std::numeric_limits<float>::infinity());
    }
  }
  order.resize(static_cast<std::size_t>(d.experts));
  std::iota(order.begin(), order.end(), 0);
  // Of equals the first.
  const auto before = [&](std::int32_t a, std::int32_t b) {
    const float left = worth[static_cast<std::size_t>(a)], right = worth[static_cast<std::size_t>(b)];
    return left > right || (left == right && a < b);
  };
  std::partial_sort(order.begin(), order.begin() + d.chosen, order.end(), before);
  float sum = 0.0F;
  for (std::int64_t i = 0; i < d.chosen; ++i) {
    chosen[i] = {order[static_cast<std::size_t>(i)], scores[order[static_cast<std::size_t>(i)]]};
    sum += chosen[i].weight;
  }
  const float factor = d.renormalise ? d.scaling / (sum + 1e-20F) : d.scaling;
  for (std::int64_t i = 0; i < d.chosen; ++i) chosen[i].weight *= factor;
}

void MixtureOfExperts::run_experts(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const MixtureDimensions& d = dimensions_;
  const Workspace::Mark scratch(step.workspace());
  Workspace& workspace = step.workspace();
  ThreadPool& pool = step.pool();
  const std::int64_t rows = u.rows, pairs = rows * d.chosen;

  const kernels::RowsOut logits = workspace.rows(rows, d.experts);  // [M, E]
  kernels::linear(pool, u, router_, nullptr, logits);
  std::vector<Choice> choices(static_cast<std::size_t>(pairs));  // [M, K]
  for (std::int64_t row = 0; row < rows; ++row) choose(logits.row(row), choices.data() + row * d.chosen);
  step.lap("router", router_, rows);

  kernels::RowsIn inputs = u;
  if (d.latent > 0) {
    const kernels::RowsOut narrowed = workspace.rows(rows, d.latent);
    kernels::linear(pool, u, latent_in_, nullptr, narrowed);
    inputs = narrowed;
  }
  // Rows sorted by expert: pair i of a row goes to places[i].
  std::vector<std::int64_t> ends(static_cast<std::size_t>(d.experts) + 1, 0), places(static_cast<std::size_t>(pairs));
  for (const Choice& choice : choices) ++ends[static_cast<std::size_t>(choice.expert) + 1];
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  std::vector<std::int64_t> next(ends.begin(), ends.end() - 1);
  // A single row is all experts' input as it is.
  const kernels::RowsOut gathered = rows == 1 ? kernels::RowsOut() : workspace.rows(pairs, inputs.columns);
  for (std::int64_t i = 0; i < pairs; ++i) {
    const std::int64_t place = next[static_cast<std::size_t>(choices[static_cast<std::size_t>(i)].expert)]++;
    places[static_cast<std::size_t>(i)] = place;
    if (rows > 1) std::copy_n(inputs.row(i / d.chosen), inputs.columns, gathered.row(place));
  }
  const FeedForward& any = experts_.front();
  const kernels::RowsOut hidden = workspace.rows(pairs, any.scratch_columns());
  const kernels::RowsOut results = workspace.rows(pairs, inputs.columns);
  std::vector<kernels::GroupedProduct> in, down;
  for (std::int64_t e = 0; e < d.experts; ++e) {
    const std::int64_t first = ends[static_cast<std::size_t>(e)];
    const std::int64_t count = ends[static_cast<std::size_t>(e) + 1] - first;
    if (count == 0) continue;
    const FeedForward& expert = experts_[static_cast<std::size_t>(e)];
    expert.append_inputs(in, rows == 1 ? 0 : first, hidden.slice_rows(first, count));
    down.push_back(
        {.weight = &expert.down(), .bias = nullptr, .y = results.slice_rows(first, count), .first_row = first});
  }
  kernels::linear_group(pool, rows == 1 ? inputs : kernels::RowsIn(gathered), in);
  any.activate(pool, hidden);
  kernels::linear_group(pool, hidden.slice_columns(0, any.hidden()), down);
  const kernels::RowsOut sums = d.latent > 0 ? workspace.rows(rows, d.latent) : out;
  pool.parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* const to = sums.row(row);
      std::fill_n(to, sums.columns, 0.0F);
      for (std::int64_t i = row * d.chosen; i < (row + 1) * d.chosen; ++i) {
        const float weight = choices[static_cast<std::size_t>(i)].weight;
        const float* const from = results.row(places[static_cast<std::size_t>(i)]);
        for (std::int64_t c = 0; c < sums.columns; ++c) to[c] += weight * from[c];
      }
    }
  });
  if (d.latent > 0) kernels::linear(pool, sums, latent_out_, nullptr, out);
  // Every expert that was asked for is read once; each row multiplies with K of them.
  std::uint64_t bytes = 0, operations = 0;
  for (const auto* group : {&in, &down}) {
    for (const kernels::GroupedProduct& product : *group) {
      bytes += kernels::weight_memory(*product.weight);
      operations += 2 * static_cast<std::uint64_t>(product.y.rows * product.weight->rows * product.weight->columns);
    }
  }
  step.lap("experts", bytes, operations, !kernels::is_float(any.up().panels));
}

void MixtureOfExperts::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  run_experts(step, u, out);
  if (!shared_) return;
  const kernels::RowsOut shared = step.workspace().rows(u.rows, out.columns);
  shared_->forward(step, u, shared);
  if (dimensions_.shared_gate) {
    const kernels::RowsOut gate = step.workspace().rows(u.rows, 1);
    kernels::linear(step.pool(), u, shared_gate_, nullptr, gate);
    kernels::sigmoid(step.pool(), gate, gate);
    for (std::int64_t row = 0; row < u.rows; ++row) {
      for (std::int64_t c = 0; c < shared.columns; ++c) shared.row(row)[c] *= gate.row(row)[0];
    }
  }
  kernels::add(step.pool(), shared, out);
}

}  // namespace krait::models
