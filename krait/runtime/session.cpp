#include "krait/runtime/session.h"

#include <algorithm>
#include <atomic>

#include "krait/core/check.h"

namespace krait::runtime {

Session::Session(Engine& engine) : engine_(&engine), slot_(engine.states().acquire()) {}

Session::Session(Engine& engine, const State& state)
    : engine_(&engine),
      slot_(state.slot_),
      position_(state.position_),
      prefix_(state.prefix_),
      // Never written to while the state holds it.
      logits_(std::const_pointer_cast<std::vector<float>>(state.logits_)),
      logits_position_(state.position_) {
  KRAIT_CHECK(slot_.belongs_to(engine.states()), "a state of another engine's pool cannot go on here");
}

State Session::snapshot() const { return {slot_, position_, prefix_, has_logits() ? logits_ : nullptr}; }

void Session::keep_logits(std::span<const float> row) {
  if (!logits_ || logits_.use_count() > 1) logits_ = std::make_shared<std::vector<float>>();
  // Whoever held them too, perhaps in another thread, has read them before letting go.
  std::atomic_thread_fence(std::memory_order_acquire);
  logits_->assign(row.begin(), row.end());
  logits_position_ = position_;
}

std::int64_t Session::feed(std::span<const TokenId> tokens, const Reached& reached) {
  const std::int64_t chunk = engine_->options().prefill_chunk;
  const std::int64_t before = position_;
  while (!tokens.empty()) {
    const auto left_of_chunk = static_cast<std::size_t>(chunk - position_ % chunk);
    const auto part = tokens.first(std::min(left_of_chunk, tokens.size()));
    tokens = tokens.subspan(part.size());
    const auto count = static_cast<std::int64_t>(part.size());
    const StepRequest request{this, part, tokens.empty() ? count - 1 : count};
    const OutputRows rows = engine_->step({&request, 1}).logits;
    if (tokens.empty()) keep_logits(rows.row(0));
    if (reached && !reached(position_)) break;
  }
  return position_ - before;
}

void Session::feed_each(std::span<const TokenId> tokens, const Visitor& visit) {
  const auto chunk = static_cast<std::size_t>(engine_->logit_rows_at_once());
  std::int64_t index = 0;
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min(chunk, tokens.size()));
    tokens = tokens.subspan(part.size());
    const StepRequest request{this, part, 0};
    const OutputRows rows = engine_->step({&request, 1}).logits;
    keep_logits(rows.row(rows.rows - 1));
    for (std::int64_t row = 0; row < rows.rows; ++row) visit(index++, rows.row(row));
  }
}

}  // namespace krait::runtime
