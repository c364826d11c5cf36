// How states of the store move between memory and the disk (state_store.h): who makes room for whom, and the thread
// that writes.
#include <algorithm>
#include <new>

#include "krait/runtime/state_saving.h"
#include "krait/runtime/state_store.h"

namespace krait::runtime {

bool StateStore::make_room(StateTier tier, StateKind kind, std::uint64_t bytes) {
  if (index_.refusal(kind, bytes, tier) != PrefixIndex::Refusal::none) return false;
  while (!index_.fits(tier, bytes)) {
    const auto victim = index_.choose_victim(tier);
    if (!victim) return false;
    tier == StateTier::memory ? leave_memory(*victim) : leave_disk(*victim);
  }
  return true;
}

void StateStore::leave_memory(EntryId id) {
  if (belongs_on_disk(id)) spill(id);
  const bool stays = index_.entry(id).on_disk;
  index_.leave(id, StateTier::memory);
  ++counts_.left_memory;
  if (!stays) {
    ++counts_.lost;
    held_.erase(id);
    return;
  }
  Held& held = held_.at(id);
  if (held.waiting == 0) held.state = {};
}

void StateStore::leave_disk(EntryId id) {
  Held& held = held_.at(id);
  held.waiting = 0;
  push({.kind = Job::Kind::remove, .prefix = held.prefix});
  const bool stays = index_.entry(id).in_memory;
  index_.leave(id, StateTier::disk);
  ++counts_.left_disk;
  if (!stays) {
    ++counts_.lost;
    held_.erase(id);
  }
}

// A tier of two; whoever has pinned it keeps it in the other.
void StateStore::leave_pinned(EntryId id, StateTier tier) {
  const int pins = held_.at(id).pins;
  for (int pin = 0; pin < pins; ++pin) index_.unpin(id);
  index_.leave(id, tier);
  for (int pin = 0; pin < pins; ++pin) index_.pin(id);
}

// From everywhere, pinned or not.
void StateStore::drop(EntryId id) {
  Held& held = held_.at(id);
  for (; held.pins > 0; --held.pins) index_.unpin(id);
  if (index_.entry(id).on_disk) push({.kind = Job::Kind::remove, .prefix = held.prefix});
  index_.forget(id);
  held_.erase(id);
}

bool StateStore::belongs_on_disk(EntryId id) const {
  const PrefixIndex::Entry& entry = index_.entry(id);
  return disk_ != nullptr && !entry.on_disk && (entry.kind != StateKind::grid || options_.grid_on_disk);
}

bool StateStore::queue_has_room(std::uint64_t bytes) const {
  return queued_bytes_ == 0 || queued_bytes_ + bytes <= options_.queue_bytes;
}

// Its place on the disk is taken at once, so that what waits is in the budget.
bool StateStore::spill(EntryId id) {
  const std::uint64_t bytes = index_.entry(id).bytes;
  Held& held = held_.at(id);
  held.missed = !queue_has_room(bytes);
  if (held.missed || !make_room(StateTier::disk, index_.entry(id).kind, bytes)) {
    ++counts_.spills_skipped;
    return false;
  }
  index_.enter(id, StateTier::disk);
  held.waiting = ++last_number_;
  held.use_changed = false;
  push({.kind = Job::Kind::write,
        .prefix = held.prefix,
        .use = use_of(id, held),
        .entry = id,
        .number = held.waiting,
        .bytes = bytes,
        .tokens = index_.path(id),
        .state = held.state});
  queued_bytes_ += bytes;
  return true;
}

void StateStore::push(Job job) {
  jobs_.push_back(std::move(job));
  wake_.notify_one();
}

void StateStore::write_jobs() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return !jobs_.empty() || ending_; });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    const auto held = held_.find(job.entry);
    const bool wanted = job.kind != Job::Kind::write || (held != held_.end() && held->second.waiting == job.number);
    Result<void> result;
    if (wanted) {
      working_ = true;
      lock.unlock();
      result = perform(job);
      job.state = {};  // its memory goes back before anybody hears of it
      lock.lock();
      working_ = false;
    }
    finish(job, result);
    changed_.notify_all();
  }
}

Result<void> StateStore::perform(const Job& job) {
  if (job.kind == Job::Kind::remove) return disk_->remove(job.prefix);
  if (job.kind == Job::Kind::note_use) return disk_->note_use(job.prefix, job.use);
  try {
    const StateSections sections(engine_, identity_, job.state, {});
    KRAIT_ASSIGN(const std::vector<std::byte> object,
                 formats::encode_state(sections.description(), sections.sources(), {options_.zstd_level}));
    return disk_->write(job.prefix, job.tokens, job.use, job.bytes, object);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kResourceExhausted, "[state store] no memory to encode a state of {} bytes", job.bytes);
  }
}

void StateStore::finish(const Job& job, const Result<void>& result) {
  if (!result && !error_) error_ = result.error();
  if (job.kind != Job::Kind::write) return;
  queued_bytes_ -= job.bytes;
  const auto it = held_.find(job.entry);
  const bool current = it != held_.end() && it->second.waiting == job.number;
  if (result) {
    if (!current) return;
    ++counts_.spilled;
    it->second.waiting = 0;
    if (!index_.entry(job.entry).in_memory) it->second.state = {};
    return;
  }
  ++counts_.spills_failed;
  if (!current) return;
  it->second.waiting = 0;
  if (!index_.entry(job.entry).in_memory) {
    ++counts_.lost;
    drop(job.entry);
    return;
  }
  leave_pinned(job.entry, StateTier::disk);
}

bool StateStore::give_back(std::uint64_t bytes) {
  std::unique_lock lock(mutex_);
  std::uint64_t freed = 0;
  while (freed < bytes) {
    const auto victim = index_.choose_victim(StateTier::memory);
    if (!victim) break;
    const std::uint64_t size = index_.entry(*victim).bytes;
    leave_memory(*victim);
    const auto held = held_.find(*victim);
    if (held == held_.end() || !held->second.state) freed += size;
  }
  if (freed > 0) return true;
  if (queued_bytes_ == 0) return false;
  changed_.wait(lock, [&, before = counts_.spilled + counts_.spills_failed] {
    return counts_.spilled + counts_.spills_failed != before || queued_bytes_ == 0;
  });
  return true;
}

Result<void> StateStore::flush() {
  if (disk_ == nullptr) return {};
  std::unique_lock lock(mutex_);
  std::vector<EntryId> wanted;
  for (const auto& [id, held] : held_) {
    // One that was displaced there by better ones is not written again.
    if (belongs_on_disk(id) && (held.missed || index_.fits(StateTier::disk, index_.entry(id).bytes))) {
      wanted.push_back(id);
    }
  }
  std::ranges::sort(wanted);  // as they were admitted
  for (const EntryId id : wanted) {
    const auto is_wanted = [&] { return held_.contains(id) && belongs_on_disk(id); };
    changed_.wait(lock, [&] { return !is_wanted() || queue_has_room(index_.entry(id).bytes); });
    if (is_wanted()) spill(id);
  }
  for (auto& [id, held] : held_) {
    if (!held.use_changed || !index_.entry(id).on_disk) continue;
    held.use_changed = false;
    push({.kind = Job::Kind::note_use, .prefix = held.prefix, .use = use_of(id, held)});
  }
  changed_.wait(lock, [&] { return jobs_.empty() && !working_; });
  if (error_) return std::unexpected(*std::exchange(error_, std::nullopt));
  return {};
}

}  // namespace krait::runtime
