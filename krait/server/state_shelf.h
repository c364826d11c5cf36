// States that clients keep by id: with an owner, a time to live, and quotas. A state lies in the engine's memory for
// states, where it shares what other states have; the store of prefixes (runtime/state_store.h) knows nothing of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "krait/formats/tokenizer.h"
#include "krait/runtime/state.h"
#include "krait/server/api_error.h"
#include "krait/server/api_keys.h"

namespace krait::server {

using ShelfClock = std::chrono::steady_clock;

struct KeptState {
  std::string id;
  std::string owner;
  runtime::State state;
  std::vector<formats::TokenId> tokens;  // all before it; empty: not known
  std::uint64_t bytes = 0;
  ShelfClock::time_point made;
  ShelfClock::time_point expires;
};

struct ShelfOptions {
  std::chrono::duration<double> ttl = std::chrono::hours(1);
  std::chrono::duration<double> longest_ttl = std::chrono::hours(24 * 7);
  std::int64_t states = 1024;  // of all owners together: they take memory that sequences need
};

// Thread-safe. Time is given by callers, so that tests need not wait.
class StateShelf {
 public:
  StateShelf(ShelfOptions options, std::uint64_t id_seed) : options_(options), random_(id_seed) {}

  // The id that was given to it, or 507 when a quota is full.
  ApiResult<KeptState> put(std::string owner, const KeyLimits& limits, runtime::State state,
                           std::vector<formats::TokenId> tokens, std::uint64_t bytes, std::optional<double> ttl_seconds,
                           ShelfClock::time_point now);
  // The same under an id of the client's; a state of that id and owner is replaced.
  ApiResult<KeptState> put_as(const std::string& id, std::string owner, const KeyLimits& limits, runtime::State state,
                              std::vector<formats::TokenId> tokens, std::uint64_t bytes,
                              std::optional<double> ttl_seconds, ShelfClock::time_point now);
  // Of the owner's; others' ids are as unknown as those that never were. Using one does not make it live longer.
  ApiResult<KeptState> find(const std::string& id, const std::string& owner, ShelfClock::time_point now);
  bool drop(const std::string& id, const std::string& owner, ShelfClock::time_point now);
  std::vector<KeptState> list(const std::string& owner, ShelfClock::time_point now);

  struct Totals {
    std::uint64_t states = 0;
    std::uint64_t bytes = 0;
    std::uint64_t expired = 0;  // since the start
  };
  Totals totals(ShelfClock::time_point now);

  // Letters, digits, - and _, at most 64 of them.
  static bool fit_for_id(std::string_view id);

 private:
  void sweep(ShelfClock::time_point now);  // with the mutex held
  std::string new_id();

  const ShelfOptions options_;
  std::mutex mutex_;
  std::uint64_t random_;
  std::map<std::string, KeptState> states_;
  std::uint64_t expired_ = 0;
};

}  // namespace krait::server
