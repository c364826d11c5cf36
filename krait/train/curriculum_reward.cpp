#include "krait/train/curriculum_reward.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "krait/core/check.h"

namespace krait::train {

double loss_reward(double before, double now) {
  if (!std::isfinite(now)) return -1.0;
  if (!std::isfinite(before)) return 1.0;
  if (before <= 0.0) return now > 0.0 ? -1.0 : 0.0;  // nothing was left to learn
  const double ratio = (now - before) / before;
  const double change = std::sqrt(std::max(0.0, now * before)) * ratio * ratio * ratio;
  return std::clamp(-100.0 * std::numbers::e * std::tanh(change * std::numbers::e), -1.0, 1.0);
}

std::vector<double> normalised(std::span<const double> weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  KRAIT_CHECK(std::isfinite(sum) && sum > 0, "weights of sum {}", sum);
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(weight / sum);
  return shares;
}

std::vector<double> draw_mixture(Random& random, const std::vector<bool>& open, int family) {
  KRAIT_CHECK(family >= 0 && family < kMixtureFamilies, "family {} of mixtures", family);
  struct Pareto {
    double scale, shape;
  };
  constexpr Pareto kPareto[] = {{1, 2}, {2, 3}, {3, 5}};
  std::vector<double> weights;
  for (const bool one : open) {
    const double drawn = 1.0 - random.uniform();  // above 0
    if (!one) {
      weights.push_back(0);
    } else if (family == 0) {
      weights.push_back(drawn);
    } else {
      const Pareto& pareto = kPareto[family - 1];
      weights.push_back(pareto.scale * std::pow(drawn, -1.0 / pareto.shape));
    }
  }
  return normalised(weights);
}

double exploration_chance(double first, double share) {
  return first * 0.5 * (1.0 + std::cos(std::numbers::pi * std::clamp(share, 0.0, 1.0)));
}

}  // namespace krait::train
