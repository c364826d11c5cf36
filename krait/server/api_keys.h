// Who may ask, and how much at once. A file has one key a line:
//
//   # name   key                limits, all optional
//   alice    sk-3f9c…           requests=8 states=20 state_bytes=1073741824 priority=5 admin=1
//   bob      sk-77aa…
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"

namespace krait::server {

struct KeyLimits {
  std::int64_t requests = 64;  // answered at the same time
  std::int64_t states = 64;    // kept for the key
  std::uint64_t state_bytes = std::numeric_limits<std::uint64_t>::max();
  int priority = 0;  // the most a request may ask for
  // Whether it may change how the server works. A file says so of each key; who has the server for himself may.
  bool admin = true;
};

// Thread-safe.
class ApiKeys {
 public:
  // Without keys everybody is one caller, named "", with the default limits.
  explicit ApiKeys(KeyLimits defaults = {}) : defaults_(defaults) {}

  // kCorrupt with the number of the line.
  Result<void> add_lines(std::string_view text, std::string_view origin);
  Result<void> add(std::string name, std::string key, KeyLimits limits);
  const KeyLimits& defaults() const { return defaults_; }
  bool required() const { return !keys_.empty(); }

  // The name that goes with the value of an Authorization header ("Bearer …") or of x-api-key. Takes the same time
  // whatever the key.
  std::optional<std::string> name_of(std::string_view authorization, std::string_view api_key) const;
  KeyLimits limits_of(const std::string& name) const;

  // A request begins, if the name has not as many as it may; and ends.
  bool begin(const std::string& name);
  void end(const std::string& name);

 private:
  struct Key {
    std::string name;
    std::string secret;
    KeyLimits limits;
  };
  KeyLimits defaults_;
  std::vector<Key> keys_;  // not changed once requests come
  mutable std::mutex mutex_;
  std::map<std::string, std::int64_t> active_;
};

}  // namespace krait::server
