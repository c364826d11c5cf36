// One sequence: the state after exactly position() tokens, and the logits that follow the last of them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "krait/runtime/engine.h"
#include "krait/runtime/state_pool.h"

namespace krait::runtime {

class Session {
 public:
  explicit Session(Engine& engine);
  Session(Session&&) = default;

  // A second sequence with the same past; they share nothing afterwards.
  Session fork() const;

  // Reads tokens in chunks of the engine's size. No tokens, no change.
  void feed(std::span<const TokenId> tokens);
  // The same, and shows the logits after every token: visit(index into tokens, logits [V]).
  using Visitor = std::function<void(std::int64_t index, std::span<const float> logits)>;
  void feed_each(std::span<const TokenId> tokens, const Visitor& visit);

  // [V], after the last token fed; empty before the first.
  std::span<const float> logits() const { return logits_; }
  std::int64_t position() const { return position_; }
  Engine& engine() const { return engine_; }
  // The bundle, and the pages of what grows (models/state_layout.h).
  std::span<const std::byte> state() const { return {state_.data(), engine_.states().bytes_per_state()}; }
  std::span<std::byte* const> pages() const { return state_.pages(); }

 private:
  friend class Engine;
  Session(Engine& engine, StateSlot state) : engine_(engine), state_(std::move(state)) {}

  Engine& engine_;
  StateSlot state_;
  std::int64_t position_ = 0;
  std::vector<float> logits_;
};

}  // namespace krait::runtime
