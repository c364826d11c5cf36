#include "krait/server/state_shelf.h"

#include <fmt/format.h>

#include <algorithm>

#include "krait/core/random.h"

namespace krait::server {
namespace {

constexpr std::size_t kLongestId = 64;

ApiError full(std::string message) {
  ApiError error = error_of_status(507, std::move(message));
  error.type = "insufficient_quota";
  error.code = "state_quota_exceeded";
  return error;
}

}  // namespace

bool StateShelf::fit_for_id(std::string_view id) {
  return !id.empty() && id.size() <= kLongestId && std::ranges::all_of(id, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
  });
}

std::string StateShelf::new_id() {
  Random random(random_);
  const std::uint64_t high = random.next(), low = random.next();
  random_ = random.state();
  return fmt::format("st_{:016x}{:016x}", high, low);
}

void StateShelf::sweep(ShelfClock::time_point now) {
  expired_ += std::erase_if(states_, [&](const auto& entry) { return entry.second.expires <= now; });
}

ApiResult<KeptState> StateShelf::put(std::string owner, const KeyLimits& limits, runtime::State state,
                                     std::vector<formats::TokenId> tokens, std::uint64_t bytes,
                                     std::optional<double> ttl_seconds, ShelfClock::time_point now) {
  std::string id;
  {
    const std::lock_guard lock(mutex_);
    do {
      id = new_id();
    } while (states_.contains(id));
  }
  return put_as(id, std::move(owner), limits, std::move(state), std::move(tokens), bytes, ttl_seconds, now);
}

ApiResult<KeptState> StateShelf::put_as(const std::string& id, std::string owner, const KeyLimits& limits,
                                        runtime::State state, std::vector<formats::TokenId> tokens, std::uint64_t bytes,
                                        std::optional<double> ttl_seconds, ShelfClock::time_point now) {
  const std::lock_guard lock(mutex_);
  sweep(now);
  const auto present = states_.find(id);
  if (present != states_.end() && present->second.owner != owner) {
    return std::unexpected(error_of_status(409, fmt::format("the id {} is taken", id)));
  }
  std::int64_t count = 0;
  std::uint64_t total = 0;
  for (const auto& [other, kept] : states_) {
    if (kept.owner != owner || other == id) continue;
    ++count;
    total += kept.bytes;
  }
  if (count >= limits.states) {
    return std::unexpected(full(fmt::format("{} states are kept for this key, which is its limit", count)));
  }
  if (bytes > limits.state_bytes || total > limits.state_bytes - bytes) {
    return std::unexpected(full(
        fmt::format("the states of this key would take {} bytes; its limit is {}", total + bytes, limits.state_bytes)));
  }
  if (present == states_.end() && static_cast<std::int64_t>(states_.size()) >= options_.states) {
    return std::unexpected(full(fmt::format("the server keeps {} states, which is its limit", states_.size())));
  }
  const double seconds = std::min(ttl_seconds.value_or(options_.ttl.count()), options_.longest_ttl.count());
  KeptState kept{
      .id = id,
      .owner = std::move(owner),
      .state = std::move(state),
      .tokens = std::move(tokens),
      .bytes = bytes,
      .made = now,
      .expires = now + std::chrono::duration_cast<ShelfClock::duration>(std::chrono::duration<double>(seconds))};
  states_[id] = kept;
  return kept;
}

ApiResult<KeptState> StateShelf::find(const std::string& id, const std::string& owner, ShelfClock::time_point now) {
  const std::lock_guard lock(mutex_);
  sweep(now);
  const auto found = states_.find(id);
  if (found != states_.end() && found->second.owner == owner) return found->second;
  ApiError error = error_of_status(404, fmt::format("there is no state \"{}\": it never was, or its time is over", id));
  error.param = "state";
  error.code = "state_not_found";
  return std::unexpected(std::move(error));
}

bool StateShelf::drop(const std::string& id, const std::string& owner, ShelfClock::time_point now) {
  const std::lock_guard lock(mutex_);
  sweep(now);
  const auto found = states_.find(id);
  if (found == states_.end() || found->second.owner != owner) return false;
  states_.erase(found);
  return true;
}

std::vector<KeptState> StateShelf::list(const std::string& owner, ShelfClock::time_point now) {
  const std::lock_guard lock(mutex_);
  sweep(now);
  std::vector<KeptState> out;
  for (const auto& [id, kept] : states_) {
    if (kept.owner == owner) out.push_back(kept);
  }
  std::ranges::sort(out, {}, &KeptState::made);
  return out;
}

StateShelf::Totals StateShelf::totals(ShelfClock::time_point now) {
  const std::lock_guard lock(mutex_);
  sweep(now);
  Totals totals{.states = states_.size(), .expired = expired_};
  for (const auto& [id, kept] : states_) totals.bytes += kept.bytes;
  return totals;
}

}  // namespace krait::server
