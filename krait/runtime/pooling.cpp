#include "krait/runtime/pooling.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "krait/core/check.h"
#include "krait/core/error.h"

namespace krait::runtime {
namespace {

constexpr std::array<std::pair<Pooling, std::string_view>, 3> kNames = {
    {{Pooling::mean, "mean"}, {Pooling::last, "last"}, {Pooling::state, "state"}}};

const models::StateTensor* last_recurrent(const Engine& engine) {
  const models::StateTensor* last = nullptr;
  for (const models::StateTensor& tensor : engine.model().state_layout().tensors()) {
    // Whole numbers are places in a store, and no part of a vector.
    const bool is_numbers = tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16 || tensor.dtype == DType::kI8;
    if (tensor.kind == models::StateKind::kRecurrent && is_numbers) last = &tensor;
  }
  return last;
}

std::int64_t values_of(const models::StateTensor& tensor) {
  std::int64_t values = 1;
  for (const std::int64_t size : tensor.shape) values *= size;
  return values;
}

}  // namespace

std::string_view to_string(Pooling pooling) {
  return std::ranges::find(kNames, pooling, &decltype(kNames)::value_type::first)->second;
}

std::optional<Pooling> parse_pooling(std::string_view name) {
  const auto* found = std::ranges::find(kNames, name, &decltype(kNames)::value_type::second);
  return found == kNames.end() ? std::nullopt : std::optional(found->first);
}

Pooler::Pooler(Pooling pooling, const Engine& engine) : pooling_(pooling), engine_(engine) {
  if (pooling != Pooling::state) return;
  const models::StateTensor* tensor = last_recurrent(engine);
  if (tensor == nullptr)
    throw UserError("the model has no recurrent state to make a vector of", "pool with mean or last");
  if (tensor->dtype != DType::kF32) {
    throw UserError(fmt::format("states in {} are not made vectors of", to_string(tensor->dtype)),
                    "keep states in f32, or pool with mean or last");
  }
  if (values_of(*tensor) > kMostStateValues) {
    throw UserError(
        fmt::format("the last layer's state has {} numbers, more than {}", values_of(*tensor), kMostStateValues),
        "pool with mean or last");
  }
}

std::int64_t Pooler::wanted_from(std::int64_t tokens, bool ends) const {
  if (pooling_ == Pooling::mean) return 0;
  return pooling_ == Pooling::last && ends ? tokens - 1 : tokens;
}

void Pooler::add(const OutputRows& hidden) {
  if (pooling_ == Pooling::last) clear();
  sum_.resize(static_cast<std::size_t>(hidden.columns));
  for (std::int64_t i = 0; i < hidden.rows; ++i) {
    const auto row = hidden.row(i);
    for (std::size_t c = 0; c < row.size(); ++c) sum_[c] += static_cast<double>(row[c]);
  }
  count_ += hidden.rows;
}

std::vector<float> Pooler::result(const State& state) const {
  if (pooling_ == Pooling::state) {
    const models::StateTensor& tensor = *last_recurrent(engine_);
    std::vector<float> values(static_cast<std::size_t>(values_of(tensor)));
    KRAIT_CHECK_EQ(tensor.bytes, values.size() * sizeof(float));
    std::memcpy(values.data(), state.bundle() + tensor.offset, tensor.bytes);
    return values;
  }
  KRAIT_CHECK(count_ > 0, "a vector of no tokens");
  std::vector<float> values(sum_.size());
  std::ranges::transform(sum_, values.begin(),
                         [&](double sum) { return static_cast<float>(sum / static_cast<double>(count_)); });
  return values;
}

void Pooler::clear() {
  sum_.assign(sum_.size(), 0.0);
  count_ = 0;
}

}  // namespace krait::runtime
