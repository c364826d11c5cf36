#include "krait/models/mixers/hax.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "krait/kernels/activation.h"
#include "krait/kernels/norm.h"
#include "krait/kernels/running_mean.h"

namespace krait::models {
namespace {

// Of one layer's state: 1 GiB.
constexpr std::int64_t kMostStateWords = std::int64_t{1} << 28;

kernels::HaxAttention sizes(const HaxDimensions& dimensions, std::int64_t states, std::int64_t inner) {
  return {.key_width = states,
          .value_width = inner,
          .hashes = dimensions.hashes,
          .recent = dimensions.recent,
          .selected = dimensions.selected};
}

void refuse(WeightLoader& loader, ErrorCode code, const std::string& what) {
  loader.set_error({code, fmt::format("[models] {} ({})", what, loader.config().origin())});
}

}  // namespace

std::optional<HaxDimensions> read_hax(WeightLoader& loader, std::int64_t states, std::int64_t inner) {
  if (!loader.config().has("sparse_arch")) return std::nullopt;
  const std::string kinds = loader.text_or("sparse_arch", "");
  constexpr std::array<std::string_view, 4> kKnown = {"sign_bin_lsh+key_selection", "key_selection+sign_bin_lsh",
                                                      "sign_bin_lsh", "key_selection"};
  if (std::ranges::find(kKnown, kinds) == kKnown.end()) {
    refuse(loader, ErrorCode::kUnsupported,
           fmt::format("sparse_arch is {}: only sign_bin_lsh, key_selection and both are supported", kinds));
    return std::nullopt;
  }
  const bool hashes = kinds.find("sign_bin_lsh") != std::string::npos;
  const bool selects = kinds.find("key_selection") != std::string::npos;
  const std::int64_t keys = loader.size_or("sparse_keys", 64), sources = hashes && selects ? 2 : 1;
  HaxDimensions dimensions;
  if (hashes) {
    dimensions.hashes = loader.size("num_hash");
    dimensions.recent = keys / sources;
  }
  if (selects) dimensions.selected = keys / sources;
  if (keys < sources || keys > kernels::HaxAttention::kMostKeys) {
    refuse(loader, ErrorCode::kCorrupt,
           fmt::format("sparse_keys is {}, not one of {} … {}", keys, sources, kernels::HaxAttention::kMostKeys));
  } else if (dimensions.hashes > kernels::HaxAttention::kMostHashes) {
    refuse(loader, ErrorCode::kUnsupported,
           fmt::format("num_hash is {}: a state has keys for each of 2^num_hash buckets, so at most {} are supported",
                       dimensions.hashes, kernels::HaxAttention::kMostHashes));
  } else if (inner > kMostStateWords || sizes(dimensions, states, inner).state_words() > kMostStateWords) {
    refuse(loader, ErrorCode::kUnsupported,
           fmt::format("num_hash {} and sparse_keys {} make a state of more than {} bytes a layer", dimensions.hashes,
                       keys, 4 * kMostStateWords));
  }
  return dimensions;
}

Hax::Hax(const WeightScope& scope, const HaxDimensions& dimensions, std::int64_t inner, std::int64_t states,
         StateLayout& layout, const std::string& state_name)
    : attention_(sizes(dimensions, states, inner)) {
  WeightLoader& loader = scope.loader();
  if (loader.failed() || !loader.rows_are_sound(scope.name("xx_proj.weight", ""), 2 * states)) return;
  // Keys above queries.
  std::array<MatrixOptions, 2> halves;
  for (std::size_t half = 0; half < 2; ++half) {
    halves[half].rows.all = 2 * states;
    halves[half].rows.order.resize(static_cast<std::size_t>(states));
    std::iota(halves[half].rows.order.begin(), halves[half].rows.order.end(), half == 0 ? std::int64_t{0} : states);
  }
  k_proj_ = scope.matrix("xx_proj.weight", "", states, inner, halves[0]);
  k_proj_.scale /= std::sqrt(static_cast<float>(states));
  q_proj_ = scope.matrix("xx_proj.weight", "", states, inner, halves[1]);
  attention_.output_scale = scope.vector("E", "", inner);
  if (dimensions.recent > 0) load_hashes(scope);
  if (dimensions.selected > 0) load_scores(scope);
  if (loader.failed()) return;
  const auto add = [&](const char* name, std::int64_t values) {
    return layout.add(state_name + name, {values}, DType::kF32, StateKind::kRecurrent);
  };
  if (dimensions.recent > 0) key_mean_offset_ = add(".hax_key_mean", states);
  query_mean_offset_ = add(".hax_query_mean", states);
  attention_offset_ = add(".hax", attention_.state_words());
}

void Hax::load_hashes(const WeightScope& scope) {
  WeightLoader& loader = scope.loader();
  if (!loader.planning() && !scope.has("hash_projection", "")) {
    loader.set_error(
        {ErrorCode::kNotFound,
         fmt::format("[models] no tensor {} in {}: hashes that are drawn anew in every pass, as the "
                     "published code has them, cannot go on with a state; the checkpoint has to hold "
                     "{} of {} components",
                     scope.name("hash_projection", ""), loader.origin(), attention_.hashes, attention_.key_width)});
  }
  attention_.hash_projection = scope.transposed("hash_projection", "", attention_.hashes, attention_.key_width);
}

void Hax::load_scores(const WeightScope& scope) {
  const std::int64_t states = attention_.key_width;
  for (std::size_t i = 0; i < 2; ++i) {
    const std::string name = fmt::format("dx_proj_{}.", i + 1);
    hidden_[i] = scope.matrix(name + "weight", "", 2 * states, 2 * states);
    hidden_bias_[i] = scope.vector(name + "bias", "", 2 * states);
  }
  score_ = scope.matrix("dx_proj_3.weight", "", 1, 2 * states);
  score_bias_ = scope.vector("dx_proj_3.bias", "", 1);
  unit_length_.assign(static_cast<std::size_t>(states), 1.0F / std::sqrt(static_cast<float>(states)));
}

kernels::RowsOut Hax::score(Step& step, kernels::RowsOut features) const {
  ThreadPool& pool = step.pool();
  const std::int64_t states = attention_.key_width;
  const kernels::RowsOut mean = features.slice_columns(states, states);
  kernels::rms_norm(pool, mean, unit_length_.data(), 1e-24F, mean);
  const kernels::RowsOut scores = step.rows(1);
  const kernels::RowsOut hidden = step.rows(2 * states), next = step.rows(2 * states);
  kernels::linear(pool, features, hidden_[0], hidden_bias_[0], hidden);
  kernels::relu(pool, hidden, hidden);
  kernels::linear(pool, hidden, hidden_[1], hidden_bias_[1], next);
  kernels::relu(pool, next, next);
  kernels::linear(pool, next, score_, score_bias_, scores);
  step.lap("hax_score", {&hidden_[0], &hidden_[1], &score_}, step.row_count());
  return scores;
}

void Hax::add(Step& step, kernels::RowsIn x, kernels::RowsOut y) const {
  const Workspace::Mark scratch(step.workspace());
  ThreadPool& pool = step.pool();
  const std::int64_t states = attention_.key_width;
  const kernels::RowsOut features = step.rows(2 * states);  // [M, 2N]: k, and the mean of q so far
  const kernels::RowsOut k = features.slice_columns(0, states), q = step.rows(states);
  const std::array<kernels::GroupedProduct, 2> products = {
      {{.weight = &k_proj_, .bias = nullptr, .y = k}, {.weight = &q_proj_, .bias = nullptr, .y = q}}};
  kernels::linear_group(pool, x, products);
  step.lap("hax_proj", {&k_proj_, &q_proj_}, step.row_count());

  const kernels::RowsOut centred_q = step.rows(states);
  kernels::running_mean(pool, q, step.positions(), step.sequences(query_mean_offset_), centred_q,
                        features.slice_columns(states, states));
  kernels::HaxInputs in = {.q = q, .k = k, .centred_q = centred_q, .centred_k = {}, .scores = {}, .v = x};
  if (attention_.recent > 0) {
    const kernels::RowsOut centred_k = step.rows(states);
    kernels::running_mean(pool, k, step.positions(), step.sequences(key_mean_offset_), centred_k, {});
    in.centred_k = centred_k;
  }
  if (attention_.selected > 0) in.scores = score(step, features);
  kernels::hax_attention(pool, attention_, in, step.sequences(attention_offset_), y);
  // A row writes a key and a value to a ring and to the best, and reads those in view.
  const std::int64_t keys = attention_.recent + attention_.selected, token = states + attention_.value_width;
  step.lap("hax_attention", static_cast<std::uint64_t>(step.row_count() * (keys + 2) * token) * sizeof(float),
           static_cast<std::uint64_t>(2 * step.row_count() * keys * token));
}

}  // namespace krait::models
