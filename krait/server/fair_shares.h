// What each key has had of the engine, in seconds, so that who had least goes first (virtual token counters, Sheng et
// al. 2024, with seconds for tokens). A key that comes from idling starts at the least of the active ones: it neither
// saves up what it did not use nor pays for when nobody else wanted anything. Not thread-safe.
#pragma once

#include <map>
#include <string>

namespace krait::server {

class FairShares {
 public:
  // One sequence more or less of a key; it is active while it has any.
  void enter(const std::string& key);
  void leave(const std::string& key);

  void charge(const std::string& key, double seconds);
  double counter(const std::string& key) const;
  std::size_t remembered() const { return keys_.size(); }

 private:
  struct Key {
    double counter = 0;
    int sequences = 0;
  };
  void forget_idle();
  std::map<std::string, Key> keys_;
  double least_ = 0;  // of the active keys, as of the last look; never falls
};

}  // namespace krait::server
