// The arithmetic of Birdie's curriculum over objectives (Blouir et al. 2024), without its network: what a step of
// training was worth to an objective, and mixtures that could be tried next.
#pragma once

#include <span>
#include <vector>

#include "krait/core/random.h"

namespace krait::train {

// clamp(-100 e tanh(sqrt(now before) ratio^3 e), -1, 1) with ratio = (now - before) / before: 1 for a loss that fell
// far, 0 where it stays, -1 where it rose far, or is no number. The cube makes little of small changes.
double loss_reward(double before, double now);

// How candidates are drawn: uniform numbers, or Pareto's distribution of scale and shape (1, 2), (2, 3), (3, 5), whose
// heavy tails give mixtures with one or two large shares. All are normalised to sum 1, so of Pareto only shapes count.
inline constexpr int kMixtureFamilies = 4;

// A mixture from family 0 … kMixtureFamilies - 1. Objectives that are not `open` have no share; one at least is.
std::vector<double> draw_mixture(Random& random, const std::vector<bool>& open, int family);

// Divided by their sum, which is above 0.
std::vector<double> normalised(std::span<const double> weights);

// The chance that a mixture is drawn and not chosen: from `first` at share 0 of the run down to 0 at 1, by a cosine.
double exploration_chance(double first, double share);

}  // namespace krait::train
