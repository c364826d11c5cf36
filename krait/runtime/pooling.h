// One vector for a whole text, made of what a model computes on the way through it:
//   mean   of the hidden states behind the last norm, over all tokens
//   last   the one after the last token
//   state  the recurrent state of the last layer that has one, flattened
// Sums are carried in double and go token by token, so where the text was cut changes no bit.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "krait/runtime/engine.h"
#include "krait/runtime/state.h"

namespace krait::runtime {

enum class Pooling : std::uint8_t { mean, last, state };
std::string_view to_string(Pooling pooling);
std::optional<Pooling> parse_pooling(std::string_view name);

class Pooler {
 public:
  static constexpr std::int64_t kMostStateValues = 1 << 16;

  // Throws UserError where the model has no state in f32 of at most kMostStateValues numbers and that is asked for.
  Pooler(Pooling pooling, const Engine& engine);

  // Of `tokens` tokens of the text, the first position (counted from 0) whose hidden state is wanted; `ends`: they are
  // its last ones.
  std::int64_t wanted_from(std::int64_t tokens, bool ends) const;
  void add(const OutputRows& hidden);
  // The vector behind all tokens; `state` is the sequence's.
  std::vector<float> result(const State& state) const;
  void clear();

 private:
  Pooling pooling_;
  const Engine& engine_;
  std::vector<double> sum_;
  std::int64_t count_ = 0;
};

}  // namespace krait::runtime
