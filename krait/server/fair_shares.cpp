#include "krait/server/fair_shares.h"

#include <algorithm>
#include <limits>

#include "krait/core/check.h"

namespace krait::server {

void FairShares::enter(const std::string& key) {
  forget_idle();
  Key& of = keys_[key];
  if (of.sequences++ == 0) of.counter = std::max(of.counter, least_);
}

void FairShares::leave(const std::string& key) {
  const auto found = keys_.find(key);
  KRAIT_CHECK(found != keys_.end() && found->second.sequences > 0, "key \"{}\" has no sequences", key);
  --found->second.sequences;
  forget_idle();
}

void FairShares::charge(const std::string& key, double seconds) {
  const auto found = keys_.find(key);
  KRAIT_CHECK(found != keys_.end(), "key \"{}\" is not known", key);
  found->second.counter += seconds;
}

double FairShares::counter(const std::string& key) const {
  const auto found = keys_.find(key);
  return found == keys_.end() ? least_ : found->second.counter;
}

// An idle key is remembered while it owes something: coming back in a new name each time is the front's to prevent.
void FairShares::forget_idle() {
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [name, key] : keys_) {
    if (key.sequences > 0) least = std::min(least, key.counter);
  }
  if (least == std::numeric_limits<double>::infinity()) {
    // Nobody is here to whom anybody could owe anything.
    keys_.clear();
    return;
  }
  least_ = std::max(least_, least);
  std::erase_if(keys_,
                [&](const auto& entry) { return entry.second.sequences == 0 && entry.second.counter <= least_; });
}

}  // namespace krait::server
