#include "krait/runtime/engine.h"

#include <algorithm>

#include "krait/core/available_memory.h"
#include "krait/core/check.h"
#include "krait/core/error.h"
#include "krait/runtime/session.h"

namespace krait::runtime {
namespace {

std::uint64_t memory_for_states(const EngineOptions& options) {
  if (options.state_memory != 0) return options.state_memory;
  constexpr std::uint64_t kUnknown = std::uint64_t{4} << 30;  // where the system does not say what is left
  return available_memory().value_or(2 * kUnknown) / 2;
}

kernels::RowsOut rows_in(std::vector<float>& memory, std::int64_t rows, std::int64_t columns) {
  if (memory.size() < static_cast<std::size_t>(rows * columns)) memory.resize(static_cast<std::size_t>(rows * columns));
  return {memory.data(), rows, columns};
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

StepRows Engine::step(std::span<const StepRequest> requests) {
  const std::int64_t width = model_->info().width;
  std::vector<models::Segment> segments;
  segments.reserve(requests.size());
  // Requests for logits go first, so that their rows stand together before the head.
  std::int64_t logit_rows = 0;
  for (const StepOutput output : {StepOutput::kLogits, StepOutput::kHidden}) {
    for (const StepRequest& request : requests) {
      if (request.output != output) continue;
      check_tokens(request.tokens);
      Session& session = *request.session;
      const auto count = static_cast<std::int64_t>(request.tokens.size());
      std::byte* const bundle = session.slot_.make_room(session.position_, count, models::StateLayout::kPageTokens);
      segments.push_back({.state = bundle,
                          .tokens = request.tokens,
                          .position = session.position_,
                          .pages = session.slot_.pages().data(),
                          .wanted_from = request.wanted_from});
      if (output == StepOutput::kLogits) logit_rows += count - request.wanted_from;
    }
  }
  models::Step step(pool_, workspace_, segments, profile_);
  const auto rows = static_cast<std::int64_t>(step.wanted_rows().size());
  const kernels::RowsOut hidden = rows_in(hidden_, rows, width);
  model_->forward(step, hidden);
  const kernels::RowsOut logits = rows_in(logits_, logit_rows, model_->info().vocabulary);
  model_->logits(step, hidden.slice_rows(0, logit_rows), logits);
  for (const StepRequest& request : requests) {
    request.session->position_ += static_cast<std::int64_t>(request.tokens.size());
    request.session->prefix_ = extend_prefix(request.session->prefix_, request.tokens);
  }
  const kernels::RowsOut others = hidden.slice_rows(logit_rows, rows - logit_rows);
  return {.logits = {logits.data, logits.rows, logits.columns}, .hidden = {others.data, others.rows, others.columns}};
}

OutputRows Engine::logits_of(const OutputRows& hidden) {
  KRAIT_CHECK(hidden.rows <= logit_rows_at_once(), "logits of {} rows at once, at most {}", hidden.rows,
              logit_rows_at_once());
  models::Step step(pool_, workspace_, {}, profile_);
  const kernels::RowsOut logits = rows_in(headed_, hidden.rows, model_->info().vocabulary);
  model_->logits(step, {hidden.data, hidden.rows, hidden.columns}, logits);
  return {logits.data, logits.rows, logits.columns};
}

std::vector<std::vector<models::LikelyToken>> Engine::likeliest_of(const OutputRows& hidden,
                                                                   std::span<const std::int64_t> counts,
                                                                   std::int64_t drawable) {
  models::Step step(pool_, workspace_, {}, profile_);
  const std::int64_t stretch = models::head_stretch(hidden.rows, model_->info().vocabulary);
  const kernels::RowsOut scratch = rows_in(headed_, hidden.rows, stretch);
  return models::likeliest_of(*model_, step, {hidden.data, hidden.rows, hidden.columns}, counts, drawable,
                              scratch.data);
}

}  // namespace krait::runtime
