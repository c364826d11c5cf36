#include "krait/train/peer_watch.h"

#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "krait/train/rank_introduction.h"

namespace krait::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kBeat = std::chrono::milliseconds(500);
constexpr auto kSilence = std::chrono::seconds(2);  // after which a rank counts as gone
// A machine that is gone does not answer at all: what is asked of the store has its time.
constexpr auto kAnswer = kSilence + std::chrono::seconds(4);
constexpr auto kFarewell = kSilence + std::chrono::seconds(2);

std::string beat_key(std::int64_t rank) { return fmt::format("beat/{}", rank); }
std::string leave_key(std::int64_t rank) { return fmt::format("left/{}", rank); }

}  // namespace

// Shared with the thread, which may be waiting for a store that does not answer when the watch ends.
struct PeerWatch::Shared {
  c10::intrusive_ptr<c10d::Store> store;
  std::vector<Peer> peers;
  std::int64_t rank = 0;
  bool serves = false;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> tasks;
  bool stops = false;
  std::promise<void> stopped;

  void run();
  void beat() const { store->add(beat_key(rank), 1); }
  template <class Value>
  std::future<Value> ask(std::function<Value()> task);
  std::optional<std::string> farewell_of(std::int64_t rank) const;
  std::vector<std::int64_t> beats() const;
  std::string explain() const;
  void leave(const std::string& reason, bool is_own) const;
};

void PeerWatch::Shared::run() {
  std::unique_lock lock(mutex);
  while (!stops) {
    if (tasks.empty()) {
      lock.unlock();
      try {
        beat();
      } catch (const std::exception&) {
        // Who misses the store finds out where it needs it.
      }
      lock.lock();
      if (tasks.empty()) changed.wait_for(lock, kBeat, [this] { return stops || !tasks.empty(); });
      continue;
    }
    const std::function<void()> task = std::move(tasks.front());
    tasks.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
  stopped.set_value();
}

template <class Value>
std::future<Value> PeerWatch::Shared::ask(std::function<Value()> task) {
  const auto packaged = std::make_shared<std::packaged_task<Value()>>(std::move(task));
  std::future<Value> answer = packaged->get_future();
  {
    const std::lock_guard lock(mutex);
    tasks.push_back([packaged] { (*packaged)(); });
  }
  changed.notify_all();
  return answer;
}

std::optional<std::string> PeerWatch::Shared::farewell_of(std::int64_t of) const {
  if (!store->check({leave_key(of)})) return std::nullopt;
  const std::vector<std::uint8_t> text = store->get(leave_key(of));
  return std::string(text.begin(), text.end());
}

std::vector<std::int64_t> PeerWatch::Shared::beats() const {
  std::vector<std::int64_t> counts;
  for (const Peer& peer : peers) counts.push_back(store->add(beat_key(peer.rank), 0));
  return counts;
}

std::string PeerWatch::Shared::explain() const {
  const std::vector<std::int64_t> before = beats();
  // The others may be asking the same of this one.
  for (const auto end = Clock::now() + kSilence; Clock::now() < end; std::this_thread::sleep_for(kBeat)) beat();
  const std::vector<std::int64_t> after = beats();
  std::vector<std::string> gone, own, others;
  for (const Peer& peer : peers) {
    if (peer.rank == rank) continue;
    const auto index = static_cast<std::size_t>(peer.rank);
    if (const std::optional<std::string> farewell = farewell_of(peer.rank)) {
      const bool is_own = farewell->starts_with('!');
      (is_own ? own : others).push_back(fmt::format("{} ended: {}", peer.text(), farewell->substr(1)));
    } else if (after[index] == before[index]) {
      gone.push_back(peer.text() + " is gone, or hangs: it has not been heard of for 2 s");
    }
  }
  // A cause, rather than those who left on account of it.
  if (!own.empty()) return fmt::format("{}", fmt::join(own, "; "));
  if (!gone.empty()) return fmt::format("{}", fmt::join(gone, "; "));
  if (!others.empty()) return others.front();
  return "all ranks are alive, and one of them is later than the timeout allows";
}

void PeerWatch::Shared::leave(const std::string& reason, bool is_own) const {
  const std::string text = (is_own ? "!" : "?") + reason;
  store->set(leave_key(rank), std::vector<std::uint8_t>(text.begin(), text.end()));
  if (!serves) return;
  const auto end = Clock::now() + kFarewell;
  const auto all_left = [&] {
    for (const Peer& peer : peers) {
      if (peer.rank != rank && !store->check({leave_key(peer.rank)})) return false;
    }
    return true;
  };
  while (Clock::now() < end && !all_left()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

PeerWatch::PeerWatch(c10::intrusive_ptr<c10d::Store> store, std::vector<Peer> peers, std::int64_t rank, bool serves)
    : shared_(std::make_shared<Shared>()) {
  shared_->store = std::move(store);
  shared_->peers = std::move(peers);
  shared_->rank = rank;
  shared_->serves = serves;
  std::thread([shared = shared_] { shared->run(); }).detach();
}

PeerWatch::~PeerWatch() {
  std::future<void> stopped = shared_->stopped.get_future();
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stops = true;
  }
  shared_->changed.notify_all();
  stopped.wait_for(std::chrono::seconds(1));
}

std::string PeerWatch::explain() {
  std::future<std::string> answer = shared_->ask<std::string>([shared = shared_] { return shared->explain(); });
  const std::string first = shared_->peers.front().text();
  if (answer.wait_for(kAnswer) != std::future_status::ready) {
    return fmt::format("the store of {} does not answer: its machine or the network is gone", first);
  }
  try {
    return answer.get();
  } catch (const std::exception& error) {
    return fmt::format("the store of {} has broken off, so it or its launcher is gone: {}", first, first_line(error));
  }
}

void PeerWatch::say_leaving(const std::string& reason, bool is_own) {
  std::future<void> said = shared_->ask<void>([shared = shared_, reason, is_own] { shared->leave(reason, is_own); });
  said.wait_for(kFarewell + kAnswer);
}

}  // namespace krait::train
