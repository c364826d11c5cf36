#include "krait/runtime/state_store.h"

#include <algorithm>
#include <chrono>
#include <new>

#include "krait/core/check.h"
#include "krait/runtime/state_saving.h"

namespace krait::runtime {
namespace {

// A state's row in the header of its object, and the padding of the section.
constexpr std::uint64_t kBytesPerSection = 512;

PrefixIndex::Options policy_of(Engine& engine, const StateStoreOptions& options, const StateDisk* disk) {
  constexpr std::int64_t kTypicalTokens = 1024;
  PrefixIndex::Options policy = options.policy;
  policy.memory_bytes = options.memory_bytes;
  policy.disk_bytes = disk == nullptr ? 0 : disk->budget() - std::min(disk->budget(), disk->bytes_of_strangers());
  policy.state_bytes = engine.model().state_layout().bytes_at(kTypicalTokens);
  return policy;
}

}  // namespace

Hash128 owner_of(const formats::StateIdentity& identity, const models::StateLayout& layout) {
  Hasher hasher;
  hasher.feed_text(identity.architecture);
  hasher.feed_text(identity.weights);
  for (const Hash128& hash : {identity.model, identity.tokenizer}) {
    hasher.feed_number(hash.high);
    hasher.feed_number(hash.low);
  }
  for (const models::StateTensor& tensor : layout.tensors()) {
    hasher.feed_text(tensor.name);
    hasher.feed_text(to_string(tensor.dtype));
    for (const std::int64_t extent : tensor.shape) hasher.feed_number(extent);
    hasher.feed_number(tensor.bytes);
    hasher.feed_number(tensor.paged);
  }
  return hasher.value();
}

Result<std::unique_ptr<StateStore>> StateStore::open(Engine& engine, const formats::StateIdentity& identity,
                                                     const StateStoreOptions& options) {
  const StatePool& pool = engine.states();
  const std::uint64_t all = pool.capacity() * pool.bytes_per_state();
  StateStoreOptions chosen = options;
  if (chosen.memory_bytes == 0) chosen.memory_bytes = all / 2;
  if (chosen.memory_bytes > all - pool.bytes_per_state()) {
    return fail(
        ErrorCode::kInvalidArgument,
        "[state store] {} bytes of states are to be kept in memory, and the engine has {} for all states; one of "
        "{} must be left",
        chosen.memory_bytes, all, pool.bytes_per_state());
  }
  chosen.queue_bytes = std::min(chosen.queue_bytes, (all - chosen.memory_bytes) / 2);
  std::unique_ptr<StateDisk> disk;
  if (!chosen.folder.empty()) {
    const Hash128 owner = owner_of(identity, engine.model().state_layout());
    KRAIT_ASSIGN(disk, StateDisk::open(chosen.folder, owner, chosen.disk_bytes));
  }
  return std::unique_ptr<StateStore>(new StateStore(engine, identity, chosen, std::move(disk)));
}

StateStore::StateStore(Engine& engine, formats::StateIdentity identity, const StateStoreOptions& options,
                       std::unique_ptr<StateDisk> disk)
    : engine_(engine),
      identity_(std::move(identity)),
      options_(options),
      disk_(std::move(disk)),
      index_(policy_of(engine, options, disk_.get())),
      // Rises across runs, and models that share a folder, as long as the machine's clock does.
      clock_(static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch() /
                                        std::chrono::microseconds(1))) {
  if (disk_ == nullptr) return;
  for (const StateDisk::Stranger& stranger : disk_->strangers()) {
    strangers_.emplace(stranger.prefix, stranger.position);
    stranger_positions_.push_back(stranger.position);
  }
  std::ranges::sort(stranger_positions_);
  const auto [first, last] = std::ranges::unique(stranger_positions_);
  stranger_positions_.erase(first, last);
  counts_.dropped_damaged = disk_->damaged();
  take_over(disk_->take_records());
  writer_ = std::thread([this] { write_jobs(); });
}

StateStore::~StateStore() {
  if (!writer_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  writer_.join();
}

// In the order of their last use, so that the policy sees the same order of ages.
void StateStore::take_over(std::vector<StateDisk::Record> records) {
  const auto gone = [&](EntryId id) {
    push({.kind = Job::Kind::remove, .prefix = held_.at(id).prefix});
    held_.erase(id);
  };
  for (const StateDisk::Record& record : records) {
    clock_ = std::max(clock_, record.use.last);
    const auto kind = static_cast<StateKind>(std::min<std::uint32_t>(record.use.kind, 3));
    const auto admission = index_.admit(record.tokens, kind, record.memory_bytes, StateTier::disk, record.use.hits);
    for (const EntryId id : admission.forgotten) gone(id);
    if (admission.id == 0) {
      push({.kind = Job::Kind::remove, .prefix = record.prefix});
      continue;
    }
    Held& held = held_[admission.id];
    held.prefix = record.prefix;
    held.last = record.use.last;
  }
}

std::uint64_t StateStore::bytes_of(const State& state) const {
  const models::StateLayout& layout = engine_.model().state_layout();
  return layout.bytes_at(state.position()) + state.logits().size_bytes() +
         static_cast<std::uint64_t>(state.position()) * sizeof(TokenId) +
         (layout.tensors().size() + 4) * kBytesPerSection;
}

void StateStore::use(Held& held) {
  held.last = ++clock_;
  held.use_changed = true;
}

StateDisk::Use StateStore::use_of(EntryId id, const Held& held) const {
  const PrefixIndex::Entry& entry = index_.entry(id);
  return {held.last, entry.hits, static_cast<std::uint32_t>(entry.kind)};
}

StateStore::Found StateStore::done(Found found) {
  const Lookup& lookup = found.lookup;
  ++counts_.lookups[static_cast<std::size_t>(lookup.reason)];
  counts_.tokens_asked += static_cast<std::uint64_t>(lookup.tokens);
  counts_.tokens_found += static_cast<std::uint64_t>(lookup.position);
  counts_.found_on_disk += found.from_disk ? 1 : 0;
  return found;
}

StateStore::Found StateStore::find(std::span<const TokenId> tokens, std::int64_t at_most) {
  std::unique_lock lock(mutex_);
  while (true) {
    Found found;
    found.lookup = index_.plan(tokens, at_most);
    const EntryId id = found.lookup.entry;
    if (id == 0) {
      if (found.lookup.reason == LookupReason::unseen && !strangers_.empty()) {
        lock.unlock();
        if (known_to_strangers(tokens)) found.lookup.reason = LookupReason::other_model;
        lock.lock();
      }
      return done(std::move(found));
    }
    Held& held = held_.at(id);
    use(held);
    if (held.state) {
      found.state = held.state;
      // A state of the grid that is used has become worth writing.
      if (belongs_on_disk(id)) spill(id);
      return done(std::move(found));
    }
    if (held.loading) {
      changed_.wait(lock, [&] {
        const auto it = held_.find(id);
        return it == held_.end() || !it->second.loading;
      });
      continue;
    }
    if (load(id, lock, found.state)) {
      found.from_disk = true;
      return done(std::move(found));
    }
    // It is gone; the next best may be there.
  }
}

// Reads an entry back without the lock. False when it had to be dropped.
bool StateStore::load(EntryId id, std::unique_lock<std::mutex>& lock, State& state) {
  Held& held = held_.at(id);  // stays where it is: entries that are read are not dropped by others
  const Hash128 prefix = held.prefix;
  const std::uint64_t bytes = index_.entry(id).bytes;
  held.loading = true;
  index_.pin(id);
  lock.unlock();
  auto read = read_back(prefix);
  if (!read && read.error().code == ErrorCode::kResourceExhausted && give_back(bytes)) read = read_back(prefix);
  lock.lock();
  index_.unpin(id);
  held.loading = false;
  changed_.notify_all();
  if (!read) {
    const bool damaged = read.error().code == ErrorCode::kCorrupt || read.error().code == ErrorCode::kInvalidArgument;
    ++(damaged ? counts_.dropped_damaged : counts_.reads_failed);
    if (!held.state) {
      drop(id);
      return false;
    }
    // Somebody has brought the same state meanwhile.
    push({.kind = Job::Kind::remove, .prefix = prefix});
    leave_pinned(id, StateTier::disk);
    state = held.state;
    return true;
  }
  state = *std::move(read);
  if (!held.state && make_room(StateTier::memory, index_.entry(id).kind, bytes)) {
    index_.enter(id, StateTier::memory);
    held.state = state;
  }
  return true;
}

Result<State> StateStore::read_back(Hash128 prefix) {
  try {
    KRAIT_ASSIGN(const std::vector<std::byte> bytes, disk_->read(prefix));
    KRAIT_ASSIGN(const formats::StateObject object, formats::StateObject::parse(bytes, "state " + prefix.hex()));
    if (object.description().prefix != prefix) {
      return fail(ErrorCode::kCorrupt, "[state store] the object of state {} is that of state {}", prefix.hex(),
                  object.description().prefix.hex());
    }
    KRAIT_ASSIGN(RestoredState restored, restore_state(object, engine_, identity_));
    return std::move(restored.state);
  } catch (const UserError& error) {  // the engine's memory for states is used up
    return fail(ErrorCode::kResourceExhausted, "[state store] {}", error.what());
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kResourceExhausted, "[state store] no memory to read a state");
  }
}

// Whether a state of another model stands behind one of the prefixes.
bool StateStore::known_to_strangers(std::span<const TokenId> tokens) const {
  Hash128 prefix;
  std::int64_t at = 0;
  for (const std::int64_t position : stranger_positions_) {
    if (position > std::ssize(tokens)) break;
    prefix =
        extend_prefix(prefix, tokens.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(position - at)));
    at = position;
    const auto found = strangers_.find(prefix);
    if (found != strangers_.end() && found->second == position) return true;
  }
  return false;
}

bool StateStore::admit(std::span<const TokenId> tokens, const State& state, StateKind kind) {
  KRAIT_CHECK(state && state.position() == std::ssize(tokens) && extend_prefix({}, tokens) == state.prefix(),
              "a state at {} does not stand behind these {} tokens", state.position(), tokens.size());
  if (tokens.empty()) return false;
  const std::lock_guard lock(mutex_);
  const auto stands = index_.find(tokens);
  const std::uint64_t bytes = stands ? index_.entry(*stands).bytes : bytes_of(state);
  const bool in_memory = stands && index_.entry(*stands).in_memory;
  // The policy would forget who must go; here they are written first.
  if (!in_memory && kind != StateKind::grid) make_room(StateTier::memory, kind, bytes);
  const auto admission = index_.admit(tokens, kind, bytes);
  if (admission.id == 0) {
    ++counts_.refused;
    return false;
  }
  Held& held = held_[admission.id];
  held.prefix = state.prefix();
  if (!held.state || held.state.logits().empty()) held.state = state;
  use(held);
  ++counts_.admitted;
  if (belongs_on_disk(admission.id)) spill(admission.id);
  return true;
}

bool StateStore::pin(std::span<const TokenId> tokens) {
  const std::lock_guard lock(mutex_);
  const auto id = index_.find(tokens);
  if (!id) return false;
  index_.pin(*id);
  ++held_.at(*id).pins;
  return true;
}

bool StateStore::unpin(std::span<const TokenId> tokens) {
  const std::lock_guard lock(mutex_);
  const auto id = index_.find(tokens);
  if (!id || held_.at(*id).pins == 0) return false;
  index_.unpin(*id);
  --held_.at(*id).pins;
  return true;
}

bool StateStore::forget(std::span<const TokenId> tokens) {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto id = index_.find(tokens);
    if (!id) return false;
    if (!held_.at(*id).loading) {
      drop(*id);
      return true;
    }
    changed_.wait(lock);
  }
}

StateStoreStatistics StateStore::statistics() const {
  const std::lock_guard lock(mutex_);
  StateStoreStatistics statistics = counts_;
  statistics.states = index_.size();
  statistics.memory_bytes = index_.used(StateTier::memory);
  statistics.disk_bytes = index_.used(StateTier::disk);
  statistics.memory_budget = options_.memory_bytes;
  for (const auto& [id, held] : held_) statistics.waiting += held.waiting != 0 ? 1 : 0;
  if (disk_ != nullptr) {
    statistics.disk_budget = disk_->budget();
    statistics.strangers = strangers_.size();
    statistics.stranger_bytes = disk_->bytes_of_strangers();
  }
  return statistics;
}

}  // namespace krait::runtime
