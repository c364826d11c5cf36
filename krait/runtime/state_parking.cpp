#include "krait/runtime/state_parking.h"

#include <algorithm>
#include <new>
#include <utility>

#include "krait/core/check.h"
#include "krait/runtime/state_saving.h"

namespace krait::runtime {
namespace {

constexpr std::string_view kEnding = ".parked";

}  // namespace

StateParking::StateParking(Engine& engine, formats::StateIdentity identity, const StateParkingOptions& options)
    : engine_(engine), identity_(std::move(identity)), options_(options), thread_([this] { work(); }) {}

Result<std::unique_ptr<StateParking>> StateParking::open(Engine& engine, formats::StateIdentity identity,
                                                         const StateParkingOptions& options) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(options.folder, error);
  std::vector<fs::path> left;
  for (fs::directory_iterator at(options.folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == kEnding) left.push_back(at->path());
  }
  for (const fs::path& path : left) {
    if (!error) fs::remove(path, error);
  }
  if (error) {
    return fail(ErrorCode::kInputOutput, "[state parking] {} ({})", error.message(), options.folder.string());
  }
  return std::unique_ptr<StateParking>(new StateParking(engine, std::move(identity), options));
}

StateParking::~StateParking() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    wake_.notify_all();
  }
  thread_.join();
  for (const auto& [ticket, entry] : entries_) {
    std::error_code ignored;
    std::filesystem::remove(path_of(ticket), ignored);
  }
}

std::filesystem::path StateParking::path_of(Ticket ticket) const {
  return options_.folder / fmt::format("{}{}", ticket, kEnding);
}

std::optional<StateParking::Ticket> StateParking::park(State state) {
  const StatePool& pool = engine_.states();
  const std::uint64_t bytes =
      pool.bytes_per_state() + state.pages().size() * pool.page_bytes() + state.logits().size() * sizeof(float);
  const std::lock_guard lock(mutex_);
  if (reserved_ + bytes > options_.disk_bytes) return std::nullopt;
  const Ticket ticket = ++last_ticket_;
  entries_.emplace(ticket, Entry{.state = std::move(state), .bytes = bytes});
  reserved_ += bytes;
  jobs_.push_back(ticket);
  wake_.notify_one();
  return ticket;
}

StateParking::Stage StateParking::stage(Ticket ticket) const {
  const std::lock_guard lock(mutex_);
  return entries_.at(ticket).stage;
}

void StateParking::fetch(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_.at(ticket);
  if (entry.stage != Stage::parked) return;
  entry.stage = Stage::reading;
  jobs_.push_back(ticket);
  wake_.notify_one();
}

State StateParking::take(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(ticket);
  KRAIT_CHECK(entry != entries_.end() && entry->second.state, "no state has the ticket {}", ticket);
  State state = std::move(entry->second.state);
  erase(entry);
  return state;
}

void StateParking::drop(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  if (const auto entry = entries_.find(ticket); entry != entries_.end()) erase(entry);
}

void StateParking::erase(std::map<Ticket, Entry>::iterator entry) {
  if (entry->second.on_disk) {
    totals_.bytes -= entry->second.bytes;
    std::error_code ignored;
    std::filesystem::remove(path_of(entry->first), ignored);
  }
  reserved_ -= entry->second.bytes;
  entries_.erase(entry);
}

std::int64_t StateParking::writing() const {
  const std::lock_guard lock(mutex_);
  return std::ranges::count_if(entries_, [](const auto& entry) { return entry.second.stage == Stage::writing; });
}

std::int64_t StateParking::in_memory() const {
  const std::lock_guard lock(mutex_);
  return std::ranges::count_if(entries_, [](const auto& entry) {
    return entry.second.stage != Stage::parked && entry.second.stage != Stage::lost;
  });
}

StateParking::Totals StateParking::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

Result<void> StateParking::write(Ticket ticket, const State& state) const {
  try {
    return save_state(path_of(ticket), engine_, identity_, state);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kResourceExhausted, "[state parking] no memory to write a state");
  }
}

void StateParking::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return !jobs_.empty() || ending_; });
    if (ending_) return;
    const Ticket ticket = jobs_.front();
    jobs_.pop_front();
    auto entry = entries_.find(ticket);
    if (entry == entries_.end()) continue;  // taken or dropped meanwhile
    if (entry->second.stage == Stage::writing) {
      State state = entry->second.state;
      lock.unlock();
      const Result<void> written = write(ticket, state);
      state = {};
      lock.lock();
      entry = entries_.find(ticket);
      if (entry == entries_.end()) {  // taken while it was written
        std::error_code ignored;
        std::filesystem::remove(path_of(ticket), ignored);
        continue;
      }
      entry->second.state = {};
      entry->second.stage = written ? Stage::parked : Stage::lost;
      entry->second.on_disk = written.has_value();
      ++(written ? totals_.parked : totals_.lost);
      if (written) totals_.bytes += entry->second.bytes;
    } else if (entry->second.stage == Stage::reading) {
      lock.unlock();
      State state;
      bool lost = false;
      try {
        auto object = formats::StateObject::open(path_of(ticket));
        auto restored = object ? restore_state(*object, engine_, identity_)
                               : Result<RestoredState>(std::unexpected(object.error()));
        lost = !restored;
        if (restored) state = std::move(restored->state);
      } catch (const ExhaustedError&) {
        // Parked again: its turn comes once there is memory.
      } catch (const std::bad_alloc&) {
        // The same.
      }
      lock.lock();
      entry = entries_.find(ticket);
      if (entry == entries_.end()) continue;
      if (state) ++totals_.fetched;
      if (lost) ++totals_.lost;
      entry->second.stage = lost ? Stage::lost : state ? Stage::ready : Stage::parked;
      entry->second.state = std::move(state);
    }
  }
}

}  // namespace krait::runtime
