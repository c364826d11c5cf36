// The two threads of the loop and the lanes that they step in (generation_loop.h): when they wait and for what, who has
// a part, what is taken into a step and given back, and how the groups of cores change while they run.
#include <set>
#include <utility>

#include "krait/server/generation_loop.h"

namespace krait::server {

void GenerationLoop::start_threads() {
  for (LaneThread& of : threads_) {
    of.is_first = &of == &threads_.front();
    of.lane = lanes_[index_of(LaneRole::mixed)];
  }
  threads_left_ = static_cast<int>(threads_.size());
  std::size_t started = 0;
  try {
    for (LaneThread& of : threads_) {
      of.thread = std::thread([this, &of] { run(of); });
      ++started;
    }
  } catch (...) {
    // Whoever is there ends, and nobody hears of it.
    {
      const std::lock_guard lock(mutex_);
      threads_left_ = static_cast<int>(started);
    }
    stop();
    throw;
  }
}

void GenerationLoop::run(LaneThread& self) {
  Turn turn(turn_);
  while (take_orders(self, turn)) {
    drop_expired();
    select(self);
    step(self, turn);
  }
  bool is_last = false;
  {
    const std::lock_guard lock(mutex_);
    is_last = --threads_left_ == 0;
  }
  while (is_last && !members_.empty())
    fail(members_.begin()->first, {ErrorCode::kCancelled, "[server] is shutting down"});
}

bool GenerationLoop::take_orders(LaneThread& self, Turn& turn) {
  bool going = true;
  {
    const OthersTurn others(turn);
    std::unique_lock lock(mutex_);
    statistics_.awake_seconds += std::chrono::duration<double>(GenerationClock::now() - self.awake_since).count();
    const auto called = [&] {
      return ending_ || (takes_part(self) && (!inbox_.empty() || !cancelled_.empty() || changes_ != self.seen));
    };
    if (self.starved) {
      wake_.wait_for(lock, kLookAgain, called);
    } else if (self.idle) {
      wake_.wait(lock, called);
    } else {
      wake_.wait(lock, [&] { return called() || (takes_part(self) && !scheduler_.empty()); });
    }
    self.starved = self.idle = false;
    self.seen = changes_;
    self.awake_since = GenerationClock::now();
    going = !ending_;
  }
  std::set<GenerationId> cancelled;
  {
    const std::lock_guard lock(mutex_);
    members_.merge(inbox_);
    std::swap(cancelled, cancelled_);
  }
  for (const GenerationId id : cancelled) drop(id, {ErrorCode::kCancelled, "[request] was cancelled"});
  return going;
}

void GenerationLoop::drop(GenerationId id, Error error) {
  const auto member = members_.find(id);
  if (member == members_.end()) return;
  if (member->second.holder == nullptr) return fail(id, std::move(error));
  if (!member->second.doomed) member->second.doomed = std::move(error);
}

void GenerationLoop::changed(LaneThread* by) {
  // Who did it has seen it, and is not to wake itself.
  if (by != nullptr && by->seen == changes_) ++by->seen;
  ++changes_;
  wake_.notify_all();
}

// Takes effect without a gap: steps under way end in the lanes that they began in, which live until then, and the
// threads find the new ones at their next. For that long, more threads than cores may be at work.
Result<void> GenerationLoop::set_core_groups(const CoreGroups& groups) {
  KRAIT_TRY(check_core_groups(groups, engine_.cores()));
  LanePtr prompts, decodes;
  if (groups.choice != CoreGroups::Choice::together) {
    prompts = engine_.make_lane(0, groups.prompt_cores);
    decodes = engine_.make_lane(groups.prompt_cores, groups.decode_cores);
  }
  const std::lock_guard lock(mutex_);
  scheduler_.set_core_groups(groups, engine_.cores());
  // What was there before goes when this lock is given back: threads of a pool are not waited for with it held.
  std::swap(lanes_[index_of(LaneRole::prompts)], prompts);
  std::swap(lanes_[index_of(LaneRole::decodes)], decodes);
  changed();
  return {};
}

// False: there is nothing for this thread.
bool GenerationLoop::take_work(LaneThread& self) {
  LanePtr lane;
  {
    const std::lock_guard lock(mutex_);
    if (!takes_part(self)) return false;
    using enum LaneRole;
    self.role = !self.is_first ? prompts : scheduler_.apart() ? decodes : mixed;
    lane = lanes_[index_of(self.role)];
    self.taken = scheduler_.step(now(), self.role);
    self.idle = self.taken.empty() && !scheduler_.empty();
    // Time, or memory that others let go of, may bring these on; apart, those that run may be the other one's.
    self.starved = self.idle && (!scheduler_.apart() || scheduler_.waiting() + scheduler_.parked() > 0);
  }
  if (self.taken.empty()) return false;
  for (const Work& part : self.taken) members_.at(part.id).holder = &self;
  if (self.lane != lane) {
    self.lane = std::move(lane);
    self.lane->enter();
  }
  return true;
}

void GenerationLoop::release_work(LaneThread& self) {
  const std::vector<Work> taken = std::exchange(self.taken, {});
  for (const Work& part : taken) {
    const auto found = members_.find(part.id);
    if (found == members_.end()) continue;
    found->second.holder = nullptr;
    if (found->second.doomed) fail(part.id, *std::exchange(found->second.doomed, std::nullopt));
  }
  const std::lock_guard lock(mutex_);
  scheduler_.release(taken);
  changed(&self);
}

}  // namespace krait::server
