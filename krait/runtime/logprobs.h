// What a model said of the token that was chosen, and of the likeliest ones: natural logarithms of probabilities, of
// the logits as they are (no temperature, no penalties).
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "krait/formats/tokenizer.h"

namespace krait::runtime {

struct Logprobs {
  float chosen = 0.0F;
  std::vector<std::pair<formats::TokenId, float>> top;  // the likeliest first
};

// Of the tokens below `drawable`, one of which was chosen; `top` of them at most.
Logprobs logprobs_of(std::span<const float> logits, formats::TokenId chosen, std::int64_t top, std::int64_t drawable);

}  // namespace krait::runtime
