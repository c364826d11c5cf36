#include "krait/train/gradient_exchange.h"

#include <ATen/Functions.h>

#include <array>
#include <cstring>

namespace krait::train {
namespace {

std::vector<std::byte> bytes_of(std::span<const std::uint64_t> numbers) {
  const auto bytes = std::as_bytes(numbers);
  return {bytes.begin(), bytes.end()};
}

std::vector<std::uint64_t> numbers_of(std::span<const std::byte> bytes) {
  std::vector<std::uint64_t> numbers(bytes.size() / sizeof(std::uint64_t));
  std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(std::uint64_t));
  return numbers;
}

}  // namespace

Result<void> take_part(DataLoaderOptions& loader, const ProcessGroup& group) {
  if (loader.batch % group.ranks() != 0) {
    return fail(ErrorCode::kInvalidArgument,
                "[processes] [data] batch = {} is the batch of all processes and cannot be split among {} evenly: give "
                "a multiple of {}",
                loader.batch, group.ranks(), group.ranks());
  }
  loader.batch /= group.ranks();
  loader.rank = group.rank();
  loader.ranks = group.ranks();
  return {};
}

Result<void> GradientExchange::sum_counts(StepReport& report) {
  // Whole numbers below 2^53, which doubles add up exactly.
  std::array<double, 3> counts = {static_cast<double>(report.tokens), static_cast<double>(report.labels),
                                  wants_stop_ && wants_stop_() ? 1.0 : 0.0};
  KRAIT_TRY(group_.sum(counts));
  report.tokens = static_cast<std::int64_t>(counts[0]);
  report.labels = static_cast<std::int64_t>(counts[1]);
  stops_ = counts[2] > 0.0;
  return {};
}

Result<void> GradientExchange::sum_gradients(torch::nn::Module& model, StepReport& report) {
  std::vector<at::Tensor> gradients;
  for (at::Tensor& parameter : model.parameters()) {
    // One that had no part in this rank's batch may have had one in another's.
    at::Tensor& gradient = parameter.mutable_grad();
    gradient = gradient.defined() ? gradient.contiguous() : at::zeros_like(parameter);
    gradients.push_back(gradient);
  }
  KRAIT_TRY(group_.sum(gradients));
  return group_.sum(std::span(&report.loss, 1));
}

Result<void> share_outcome(const Result<void>& outcome, ProcessGroup& group) {
  std::vector<std::byte> told;
  if (group.is_first() && !outcome) {
    const auto bytes = std::as_bytes(std::span(outcome.error().message));
    told.push_back(static_cast<std::byte>(outcome.error().code));
    told.insert(told.end(), bytes.begin(), bytes.end());
  }
  KRAIT_TRY(group.broadcast(told));
  if (told.empty()) return {};
  const std::string message(reinterpret_cast<const char*>(told.data()) + 1, told.size() - 1);
  return std::unexpected(Error{static_cast<ErrorCode>(told.front()), message});
}

Part own_part(std::int64_t count, const ProcessGroup* group) {
  if (group == nullptr) return {0, count};
  const std::int64_t first = count * group->rank() / group->ranks();
  return {first, count * (group->rank() + 1) / group->ranks() - first};
}

Result<void> any_of(bool& flag, ProcessGroup& group) {
  double count = flag ? 1.0 : 0.0;
  KRAIT_TRY(group.sum(std::span(&count, 1)));
  flag = count > 0.0;
  return {};
}

Result<void> add_up(TextEvaluation& text, ProcessGroup& group) {
  std::array<double, 2> sums = {text.nats, static_cast<double>(text.tokens)};
  KRAIT_TRY(group.sum(sums));
  text.nats = sums[0];
  text.tokens = static_cast<std::int64_t>(sums[1]);
  return {};
}

Result<void> add_up(TaskScore& score, ProcessGroup& group) {
  const std::array<std::int64_t*, 4> counts = {&score.examples, &score.exact, &score.answers, &score.right};
  std::array<double, 4> sums{};
  for (std::size_t i = 0; i < counts.size(); ++i) sums[i] = static_cast<double>(*counts[i]);
  KRAIT_TRY(group.sum(sums));
  for (std::size_t i = 0; i < counts.size(); ++i) *counts[i] = static_cast<std::int64_t>(sums[i]);
  return {};
}

Result<void> share_state(Trainer& trainer, ProcessGroup& group) {
  for (const auto& provider : trainer.optimiser().providers()) {
    KRAIT_ASSIGN(const ProvidedState state, provider->state());
    for (const formats::NamedTensor& tensor : state.tensors) {
      // The bytes are this trainer's own, which it hands out to be read.
      KRAIT_TRY(group.broadcast(std::span(const_cast<std::byte*>(tensor.view.bytes.data()), tensor.view.bytes.size())));
    }
  }
  std::vector<std::byte> place = bytes_of(trainer.place()), counters = bytes_of(trainer.counters());
  KRAIT_TRY(group.broadcast(place));
  KRAIT_TRY(group.broadcast(counters));
  // Where a rank has other data than rank 0, this is where it says so.
  return group.is_first() ? Result<void>() : trainer.set_progress(numbers_of(place), numbers_of(counters));
}

Result<void> check_state(const Trainer& trainer, ProcessGroup& group) {
  Hasher hasher;
  for (const auto& provider : trainer.state_providers()) {
    KRAIT_ASSIGN(const ProvidedState state, provider->state());
    for (const formats::NamedTensor& tensor : state.tensors) hasher.feed(tensor.view.bytes);
    for (const StateBlob& blob : state.blobs) hasher.feed(blob.bytes);
  }
  const auto alike = group.check_alike(fmt::format("after step {} parameters", trainer.steps_done()), hasher.value());
  if (alike || alike.error().code != ErrorCode::kInvalidArgument) return alike;
  return fail(ErrorCode::kInvalidArgument,
              "{}: their processors round differently; KRAIT_TARGET makes all use the same instructions",
              alike.error().message);
}

}  // namespace krait::train
