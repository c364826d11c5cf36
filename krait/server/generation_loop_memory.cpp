// How sequences come by the memory for their states (generation_loop.h): who waits, who is set aside, whose state goes
// to the disk, and who has to begin again.
#include <algorithm>
#include <ranges>
#include <utility>

#include "krait/runtime/slab.h"
#include "krait/server/generation_loop.h"

namespace krait::server {
namespace {

std::string_view word_of(runtime::LookupReason reason) {
  using enum runtime::LookupReason;
  switch (reason) {
    case hit: return "hit";
    case partial_hit: return "partial_hit";
    case unseen: return "unseen";
    case no_state: return "no_state";
    case evicted: return "evicted";
    case other_model: return "other_model";
    case disabled: return "disabled";
  }
  return "unknown";
}

}  // namespace

// False: there is no memory for it now, and it waits on.
bool GenerationLoop::begin(Member& member) {
  Sequence& sequence = member.sequence;
  if (sequence.is_spilled()) {
    const auto comes = sequence.recall(*options_.parking);
    const std::lock_guard lock(mutex_);
    if (comes) {
      scheduler_.park(sequence.id(), now(), now() + std::chrono::duration<double>(*comes).count());
      return false;
    }
    ++(sequence.has_state() ? statistics_.resumes : statistics_.restarts);
    if (sequence.has_state()) return true;
  }
  const runtime::StatePool& states = engine_.states();
  while (true) {
    try {
      // Before the lookup, which counts as a use of what it finds.
      if (states.states_in_use() >= states.capacity() && !sequence.request().state) {
        throw runtime::ExhaustedError("no memory is left for another state", "");
      }
      sequence.begin(store_);
      break;
    } catch (const runtime::ExhaustedError&) {
      if (store_ != nullptr && store_->give_back(states.bytes_per_state())) continue;
      set_aside(sequence.id());  // there is memory for it in a moment
      const std::lock_guard lock(mutex_);
      scheduler_.put_back(sequence.id(), now());
      return false;
    }
  }
  const auto time = GenerationClock::now();
  const bool first = !std::exchange(member.begun, true);
  const std::chrono::duration<double> waited = time - member.submitted;
  {
    const std::lock_guard lock(mutex_);
    scheduler_.prompt_left(sequence.id(), sequence.prompt_left(), sequence.until_cut());
    if (first) {
      statistics_.queue_seconds.add(waited.count());
      if (!sequence.request().state) ++statistics_.lookups[std::string(word_of(sequence.lookup().reason))];
      statistics_.reused_tokens += static_cast<std::uint64_t>(sequence.reused());
      GenerationStatistics::KeyUsage& of_key = usage(sequence.request().key);
      of_key.prompt_tokens += static_cast<std::uint64_t>(sequence.prompt_tokens());
      of_key.reused_tokens += static_cast<std::uint64_t>(sequence.reused());
    }
  }
  sequence.started(waited);
  return true;
}

// A step found no memory: takes some from the store, then sets the youngest aside, and a last one takes from those
// that are set aside. False: nothing is left of the batch.
bool GenerationLoop::make_room(LaneThread& self, std::vector<Work>& batch) {
  if (store_ != nullptr && store_->give_back(engine_.states().bytes_per_state())) return true;
  const auto youngest = std::ranges::max_element(batch, {}, &Work::id);
  if (batch.size() > 1) {
    const std::lock_guard lock(mutex_);
    scheduler_.park(youngest->id, now(), now() + std::chrono::duration<double>(kLookAgain).count());
    ++statistics_.parkings;
    batch.erase(youngest);
    return true;
  }
  if (set_aside(batch.front().id)) {
    // It goes on when their memory is free; nothing else could be done meanwhile.
    self.starved = true;
    return false;
  }
  bool others_step = false;
  for (auto& [id, member] : members_ | std::views::reverse) {
    if (id == batch.front().id || !member.sequence.has_state()) continue;
    if (member.holder != nullptr && member.holder != &self) {
      others_step = true;
      continue;
    }
    const bool spilled = options_.parking != nullptr && member.sequence.spill(*options_.parking);
    if (!spilled) member.sequence.restart();
    const std::lock_guard lock(mutex_);
    if (spilled) {
      scheduler_.park(id, now(), now());
      ++statistics_.spills;
      self.starved = true;
      return false;
    }
    scheduler_.restart(id, now());
    ++statistics_.restarts;
    return true;
  }
  if (others_step) {
    // What has memory is in the other lane's step: it is asked again when that has ended, or goes on without.
    const std::lock_guard lock(mutex_);
    scheduler_.park(batch.front().id, now(), now() + std::chrono::duration<double>(kLookAgain).count());
    ++statistics_.parkings;
    self.starved = true;
    return false;
  }
  fail(batch.front().id, {ErrorCode::kResourceExhausted,
                          "[engine] the memory for states is used up, and this sequence is the only one that has any"});
  return false;
}

// Has the state of the youngest that is parked, but of this one, written to the disk. Whether memory comes free by and
// by.
bool GenerationLoop::set_aside(GenerationId but) {
  if (options_.parking == nullptr) return false;
  if (options_.parking->writing() > 0) return true;
  for (auto& [id, member] : members_ | std::views::reverse) {
    if (id == but || !member.sequence.has_state() || member.holder != nullptr) continue;
    const std::lock_guard lock(mutex_);
    if (!scheduler_.is_parked(id)) continue;
    if (!member.sequence.spill(*options_.parking)) return false;
    ++statistics_.spills;
    return true;
  }
  return false;
}

}  // namespace krait::server
