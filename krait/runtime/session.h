// One sequence that goes on: the state after exactly position() tokens, and the logits that follow the last of them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "krait/core/hash.h"
#include "krait/runtime/engine.h"
#include "krait/runtime/state.h"

namespace krait::runtime {

class Session {
 public:
  // Before the first token. Throws ExhaustedError when the engine's memory for states is used up.
  explicit Session(Engine& engine);
  // Goes on from a state of the engine's pool. Shares its memory until the first token is fed.
  Session(Engine& engine, const State& state);
  Session(Session&&) = default;
  Session& operator=(Session&&) = default;

  // What it has come to, to be kept. Costs no copy now; the next token fed does.
  State snapshot() const;
  // A second sequence with the same past.
  Session fork() const { return Session(*engine_, snapshot()); }

  // Reads tokens in chunks that end at multiples of the engine's size, so that one who goes on from a state at such a
  // position computes what the whole sequence would, to the bit. No tokens, no change. After each chunk `reached` hears
  // the position, and ends it there by answering false. How many tokens were read.
  using Reached = std::function<bool(std::int64_t position)>;
  std::int64_t feed(std::span<const TokenId> tokens, const Reached& reached = {});
  // The same, and shows the logits after every token: visit(index into tokens, logits [V]).
  using Visitor = std::function<void(std::int64_t index, std::span<const float> logits)>;
  void feed_each(std::span<const TokenId> tokens, const Visitor& visit);

  // [V], after the last token; empty before the first, and after steps of the engine that others made.
  std::span<const float> logits() const {
    return has_logits() ? std::span<const float>(*logits_) : std::span<const float>();
  }
  // For those who step the engine themselves: keeps what it said after the last token of this session.
  void keep_logits(std::span<const float> row);
  void forget_logits() { logits_.reset(); }
  std::int64_t position() const { return position_; }
  Hash128 prefix() const { return prefix_; }  // of the tokens fed (core/hash.h)
  Engine& engine() const { return *engine_; }
  // The bundle, and the pages of what grows (models/state_layout.h).
  std::span<const std::byte> state() const { return {slot_.bundle(), engine_->states().bytes_per_state()}; }
  std::span<std::byte* const> pages() const { return slot_.pages(); }

 private:
  friend class Lane;
  bool has_logits() const { return logits_ && logits_position_ == position_; }

  Engine* engine_;
  StateSlot slot_;
  std::int64_t position_ = 0;
  Hash128 prefix_;
  std::shared_ptr<std::vector<float>> logits_;  // shared with states, and then not written to
  std::int64_t logits_position_ = 0;            // the tokens they follow
};

}  // namespace krait::runtime
