// The masked objective of self-pretraining (Amos et al. 2024, "Never train from scratch"): before it learns a task, a
// model that reads in both directions restores hidden places of the task's own inputs. Shares that the paper hides:
// images and speech 50 %, physiological signals 25 %, text 15 %, ListOps 10 %. Models that read forwards only predict
// the next token instead (objective_language.cpp).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "krait/core/random.h"
#include "krait/train/batch.h"

namespace krait::train {

struct MaskedPlaces {
  double share = 0.15;    // of the places
  std::int64_t span = 1;  // places that are hidden together
};

// Which places are hidden: floor(length * share / span) spans that do not overlap, at least one where one fits.
std::vector<bool> hidden_places(std::int64_t length, const MaskedPlaces& places, Random& random);

// Tokens: hidden ones become `mask` and are the labels of their own places. The whole is read in both directions.
Example masked_tokens(std::span<const std::int32_t> tokens, const MaskedPlaces& places, std::int32_t mask,
                      Random& random);

// Signals of C channels: hidden places become 0 in all of them, and a further channel says which are hidden. The loss
// counts hidden places only.
struct MaskedSignal {
  std::vector<float> inputs;       // [T, C + 1]
  std::vector<float> targets;      // [T, C], the signal
  std::vector<std::uint8_t> loss;  // [T], 1 where hidden
};
MaskedSignal masked_signal(std::span<const float> signal, std::int64_t channels, const MaskedPlaces& places,
                           Random& random);

}  // namespace krait::train
