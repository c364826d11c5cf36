#include "krait/runtime/engine.h"

#include <algorithm>

#include "krait/core/available_memory.h"
#include "krait/core/error.h"
#include "krait/runtime/session.h"

namespace krait::runtime {
namespace {

std::uint64_t memory_for_states(const EngineOptions& options) {
  if (options.state_memory != 0) return options.state_memory;
  constexpr std::uint64_t kUnknown = std::uint64_t{4} << 30;  // where the system does not say what is left
  return available_memory().value_or(2 * kUnknown) / 2;
}

}  // namespace

Engine::Engine(std::unique_ptr<models::Model> model, EngineOptions options)
    : model_(std::move(model)),
      options_(options),
      pool_(options.threads),
      states_(model_->state_layout().bytes(), model_->state_layout().page_bytes(), memory_for_states(options)) {
  if (options_.prefill_chunk < 1) {
    throw UserError(fmt::format("a prefill chunk of {} tokens is not possible", options_.prefill_chunk),
                    "give at least 1");
  }
}

std::int64_t Engine::logit_rows_at_once() const {
  constexpr std::int64_t kFloats = (std::int64_t{16} << 20) / static_cast<std::int64_t>(sizeof(float));
  return std::clamp<std::int64_t>(kFloats / model_->info().vocabulary, 1, options_.prefill_chunk);
}

void Engine::check_tokens(std::span<const TokenId> tokens) const {
  const std::int64_t vocabulary = model_->info().vocabulary;
  for (const TokenId id : tokens) {
    if (id < 0 || id >= vocabulary) {
      throw UserError(fmt::format("token id {} is outside the vocabulary", id),
                      fmt::format("ids of this model are 0 … {}", vocabulary - 1));
    }
  }
}

LogitRows Engine::step(std::span<const StepRequest> requests) {
  const std::int64_t vocabulary = model_->info().vocabulary;
  std::vector<models::Segment> segments;
  segments.reserve(requests.size());
  for (const StepRequest& request : requests) {
    check_tokens(request.tokens);
    Session& session = *request.session;
    std::byte* const bundle = session.slot_.make_room(
        session.position_, static_cast<std::int64_t>(request.tokens.size()), models::StateLayout::kPageTokens);
    segments.push_back({.state = bundle,
                        .tokens = request.tokens,
                        .position = session.position_,
                        .pages = session.slot_.pages().data(),
                        .logits_from = request.logits_from});
  }
  models::Step step(pool_, workspace_, segments, profile_);
  const auto rows = static_cast<std::int64_t>(step.logit_rows().size());
  if (logits_.size() < static_cast<std::size_t>(rows * vocabulary)) {
    logits_.resize(static_cast<std::size_t>(rows * vocabulary));
  }
  model_->forward(step, {logits_.data(), rows, vocabulary});
  for (const StepRequest& request : requests) {
    request.session->position_ += static_cast<std::int64_t>(request.tokens.size());
    request.session->prefix_ = extend_prefix(request.session->prefix_, request.tokens);
  }
  return {logits_.data(), rows, vocabulary};
}

}  // namespace krait::runtime
