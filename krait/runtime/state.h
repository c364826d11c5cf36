// The state of a sequence after exactly position() tokens, kept: a value that nobody changes. Copies share its memory,
// and so do the sessions that go on from it, until they do. It knows no model; what it belongs to, and how it is
// written down, stands in state_saving.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "krait/core/hash.h"
#include "krait/runtime/state_pool.h"

namespace krait::runtime {

class State {
 public:
  State() = default;
  // `logits` may be null: then nothing can be drawn before another token is fed.
  State(StateSlot slot, std::int64_t position, Hash128 prefix, std::shared_ptr<const std::vector<float>> logits)
      : slot_(std::move(slot)), position_(position), prefix_(prefix), logits_(std::move(logits)) {}

  explicit operator bool() const { return static_cast<bool>(slot_); }
  std::int64_t position() const { return position_; }
  // Of the tokens before it (core/hash.h, extend_prefix).
  Hash128 prefix() const { return prefix_; }
  // [V], after the last token, or none.
  std::span<const float> logits() const {
    return logits_ ? std::span<const float>(*logits_) : std::span<const float>();
  }
  const std::byte* bundle() const { return slot_.bundle(); }
  std::span<std::byte* const> pages() const { return slot_.pages(); }

 private:
  friend class Session;
  StateSlot slot_;
  std::int64_t position_ = 0;
  Hash128 prefix_;
  std::shared_ptr<const std::vector<float>> logits_;
};

}  // namespace krait::runtime
