#include "krait/train/data_mixture.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "krait/core/check.h"

namespace krait::train {

Mixture::Mixture(std::span<const double> weights) : shares_(weights.begin(), weights.end()) {
  KRAIT_CHECK(!shares_.empty(), "a mixture of no sources");
  for (const double weight : shares_) KRAIT_CHECK(std::isfinite(weight) && weight > 0, "a weight of {}", weight);
  const double sum = std::accumulate(shares_.begin(), shares_.end(), 0.0);
  for (double& share : shares_) share /= sum;
}

std::size_t Mixture::next(std::span<const std::uint64_t> taken) const {
  KRAIT_CHECK_EQ(taken.size(), shares_.size());
  const std::size_t n = shares_.size();
  if (n == 1) return 0;
  const auto drawn = std::accumulate(taken.begin(), taken.end(), std::uint64_t{0});
  // A source may be taken once it is behind by this much; of those, the one is taken that would have to be soonest.
  const double margin = 1 / (2 * static_cast<double>(n) - 2);
  std::size_t chosen = n;
  double soonest = std::numeric_limits<double>::infinity();
  std::size_t furthest = 0;
  double most_behind = -std::numeric_limits<double>::infinity();
  for (std::size_t s = 0; s < n; ++s) {
    const double behind = shares_[s] * static_cast<double>(drawn + 1) - static_cast<double>(taken[s]);
    if (behind > most_behind) {
      most_behind = behind;
      furthest = s;
    }
    const double due = (1 - margin - behind) / shares_[s];
    if (behind >= margin && due < soonest) {
      soonest = due;
      chosen = s;
    }
  }
  // The theorem says that one qualifies; rounding may say otherwise.
  return chosen < n ? chosen : furthest;
}

}  // namespace krait::train
