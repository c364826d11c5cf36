#include "krait/runtime/session.h"

#include <algorithm>

namespace krait::runtime {

Session::Session(Engine& engine) : Session(engine, engine.states().acquire()) {}

Session Session::fork() const {
  Session copy(engine_, engine_.states().fork(state_));
  copy.position_ = position_;
  copy.logits_ = logits_;
  return copy;
}

void Session::feed(std::span<const TokenId> tokens) {
  const auto chunk = static_cast<std::size_t>(engine_.options().prefill_chunk);
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min(chunk, tokens.size()));
    tokens = tokens.subspan(part.size());
    const auto count = static_cast<std::int64_t>(part.size());
    const StepRequest request{this, part, tokens.empty() ? count - 1 : count};
    const LogitRows rows = engine_.step({&request, 1});
    if (tokens.empty()) logits_.assign(rows.row(0).begin(), rows.row(0).end());
  }
}

void Session::feed_each(std::span<const TokenId> tokens, const Visitor& visit) {
  const auto chunk = static_cast<std::size_t>(engine_.logit_rows_at_once());
  std::int64_t index = 0;
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min(chunk, tokens.size()));
    tokens = tokens.subspan(part.size());
    const StepRequest request{this, part, 0};
    const LogitRows rows = engine_.step({&request, 1});
    logits_.assign(rows.row(rows.rows - 1).begin(), rows.row(rows.rows - 1).end());
    for (std::int64_t row = 0; row < rows.rows; ++row) visit(index++, rows.row(row));
  }
}

}  // namespace krait::runtime
