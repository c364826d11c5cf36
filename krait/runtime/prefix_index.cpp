#include "krait/runtime/prefix_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ranges>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

constexpr std::array kTiers = {StateTier::memory, StateTier::disk};

}  // namespace

std::string to_string(const Lookup& lookup) {
  switch (lookup.reason) {
    case LookupReason::hit: return fmt::format("hit: all {} tokens", lookup.position);
    case LookupReason::partial_hit: {
      std::string text = fmt::format("partial hit at {} of {} tokens", lookup.position, lookup.tokens);
      if (lookup.evicted_position != 0) text += fmt::format("; a state at {} was evicted", lookup.evicted_position);
      return text;
    }
    case LookupReason::unseen: return "no stored sequence begins like this";
    case LookupReason::no_state:
      return fmt::format(
          "no state at this position: the first {} of {} tokens are known, but none of their states is kept",
          lookup.agreed, lookup.tokens);
    case LookupReason::evicted: return fmt::format("evicted: a state at {} was here", lookup.evicted_position);
    case LookupReason::other_model: return "other model: the states stored belong to another model or layout";
    case LookupReason::disabled: return "disabled: no states are kept";
  }
  KRAIT_CHECK(false, "lookup reason {}", static_cast<int>(lookup.reason));
}

PrefixIndex::PrefixIndex(const Options& options) : options_(options) {
  KRAIT_CHECK(options.state_bytes > 0 && options.grid_share > 0, "states of {} bytes, one in {} for the grid",
              options.state_bytes, options.grid_share);
  KRAIT_CHECK(options.seconds_per_token > 0 && options.seconds_per_disk_byte > 0,
              "a token takes {} s, a byte from disk {} s", options.seconds_per_token, options.seconds_per_disk_byte);
  KRAIT_CHECK(options.grid_tokens >= 0 && options.least_gain_tokens > 0, "a grid of {} tokens, a gain of {}",
              options.grid_tokens, options.least_gain_tokens);
}

PrefixIndex::Record& PrefixIndex::at(EntryId id) {
  return const_cast<Record&>(std::as_const(*this).at(id));  // ours, and not const
}

const PrefixIndex::Record& PrefixIndex::at(EntryId id) const {
  const auto found = records_.find(id);
  KRAIT_CHECK(found != records_.end() && !found->second.is_ghost, "entry {} is not in the index", id);
  return found->second;
}

Lookup PrefixIndex::plan(std::span<const std::int32_t> tokens, std::int64_t at_most) {
  ++lookups_;
  const TokenTree::Walk walk = tree_.walk(tokens);
  Lookup lookup;
  lookup.tokens = std::ssize(tokens);
  lookup.agreed = walk.agreed;
  at_most = std::min(at_most, lookup.tokens);
  for (const TokenTree::Place& place : walk.places | std::views::reverse) {
    ++looked_at_;
    if (place.position > at_most) continue;
    Record& record = records_.at(place.value);
    if (record.is_ghost) {
      lookup.evicted_position = std::max(lookup.evicted_position, place.position);
      continue;
    }
    lookup.entry = place.value;
    lookup.position = place.position;
    unqueue(place.value, record);
    record.last = lookups_;
    ++record.hits;
    if (record.kind == StateKind::grid) record.kind = StateKind::junction;  // it has shown its use
    queue(place.value, record);
    break;
  }
  if (lookup.entry != 0) {
    lookup.reason = lookup.position == at_most ? LookupReason::hit : LookupReason::partial_hit;
  } else if (lookup.evicted_position != 0) {
    lookup.reason = LookupReason::evicted;
  } else if (lookup.agreed != 0) {
    lookup.reason = LookupReason::no_state;
  }
  add_snapshots(lookup, at_most);
  return lookup;
}

void PrefixIndex::add_snapshots(Lookup& lookup, std::int64_t at_most) const {
  if (lookup.position == lookup.tokens) return;
  std::vector<Lookup::Snapshot>& snapshots = lookup.snapshots;
  const std::int64_t junction = std::min(lookup.agreed, at_most);
  const bool has_junction = junction < lookup.tokens && junction - lookup.position >= options_.least_gain_tokens;
  const std::int64_t spacing = grid_spacing(lookup.tokens - lookup.position);
  std::int64_t last = lookup.position;
  const auto add = [&](std::int64_t position, StateKind kind) {
    snapshots.push_back({position, kind});
    last = position;
  };
  if (spacing != 0) {
    bool passed = !has_junction;
    for (std::int64_t at = (lookup.position / spacing + 1) * spacing; at < lookup.tokens; at += spacing) {
      if (!passed && junction <= at) {
        add(junction, StateKind::junction);
        passed = true;
      }
      if (at - last >= options_.least_gain_tokens) add(at, StateKind::grid);
    }
    if (!passed) add(junction, StateKind::junction);
  } else if (has_junction) {
    add(junction, StateKind::junction);
  }
  add(lookup.tokens, StateKind::prompt);
}

// The grid coarsens as memory fills, so that one long prompt does not take what many could use.
std::int64_t PrefixIndex::grid_spacing(std::int64_t tokens) const {
  if (options_.grid_tokens == 0) return 0;
  const std::uint64_t free = options_.memory_bytes - used_[index(StateTier::memory)];
  const std::uint64_t share = free / options_.state_bytes / options_.grid_share;
  const auto states = static_cast<std::int64_t>(std::min<std::uint64_t>(share, options_.grid_states));
  if (states == 0) return 0;
  std::int64_t spacing = options_.grid_tokens;
  while (tokens / spacing > states) spacing *= 2;
  return spacing;
}

PrefixIndex::Refusal PrefixIndex::refusal(StateKind kind, std::uint64_t bytes, StateTier tier) const {
  if (fits(tier, bytes)) return Refusal::none;
  if (bytes > budget(tier)) return Refusal::larger_than_budget;
  if (kind == StateKind::grid) return Refusal::no_free_memory;
  return bytes > budget(tier) - pinned_[index(tier)] ? Refusal::only_pinned_left : Refusal::none;
}

std::optional<PrefixIndex::EntryId> PrefixIndex::find(std::span<const std::int32_t> tokens) const {
  const auto stands = tree_.find(tokens);
  if (!stands || records_.at(stands->value).is_ghost) return std::nullopt;
  return stands->value;
}

PrefixIndex::Admission PrefixIndex::admit(std::span<const std::int32_t> prefix, StateKind kind, std::uint64_t bytes,
                                          StateTier tier, std::uint32_t hits) {
  KRAIT_CHECK(!prefix.empty() && bytes > 0, "a state of {} bytes after {} tokens", bytes, prefix.size());
  Admission admission;
  const auto stands = tree_.find(prefix);
  Record* record = stands ? &records_.at(stands->value) : nullptr;
  if (record != nullptr && !record->is_ghost) {
    admission.existed = true;
    unqueue(stands->value, *record);
    record->last = lookups_;
    if (record->kind == StateKind::grid) record->kind = kind;
    bytes = record->bytes;
    queue(stands->value, *record);
    if (is_in(*record, tier)) {
      admission.id = stands->value;
      return admission;
    }
    pin(stands->value);  // it must not make room for itself
  }
  const auto done = [&] {
    if (admission.existed) unpin(stands->value);
  };
  admission.refusal = refusal(kind, bytes, tier);
  if (admission.refusal != Refusal::none) {
    done();
    return admission;
  }
  while (!fits(tier, bytes)) {
    const auto victim = choose_victim(tier);
    KRAIT_CHECK(victim, "{} bytes do not fit into {} of which {} are pinned", bytes, budget(tier),
                pinned_[index(tier)]);
    const Record& loser = at(*victim);
    const bool stays = is_in(loser, tier == StateTier::memory ? StateTier::disk : StateTier::memory);
    leave(*victim, tier);
    if (!stays) admission.forgotten.push_back(*victim);
  }
  if (admission.existed) {
    admission.id = stands->value;
    done();
    enter(admission.id, tier);
    return admission;
  }
  // Making room may have trimmed the ghost that stood here, so look again.
  if (const auto ghost = tree_.find(prefix)) {
    admission.id = ghost->value;
    record = &records_.at(admission.id);
    ghosts_.erase(record->ghost);
    record->is_ghost = false;
    if (kind != StateKind::grid) ++record->hits;  // somebody came back for it
  } else {
    admission.id = next_++;
    record = &records_[admission.id];
    record->node = tree_.put(prefix, admission.id);
    record->position = std::ssize(prefix);
  }
  record->bytes = bytes;
  record->kind = kind;
  record->hits += hits;
  record->last = lookups_;
  place(*record, tier);
  queue(admission.id, *record);
  trim_ghosts();
  return admission;
}

bool PrefixIndex::fits(StateTier tier, std::uint64_t bytes) const {
  return bytes <= budget(tier) && used(tier) <= budget(tier) - bytes;
}

std::int64_t PrefixIndex::tokens_saved(const Record& record) const {
  auto above = tree_.above(record.node);
  while (above && records_.at(above->value).is_ghost) {
    ++looked_at_;
    above = tree_.above(above->node);
  }
  return record.position - (above ? above->position : 0);
}

double PrefixIndex::seconds_saved(const Record& record, StateTier tier) const {
  const double prefill = options_.seconds_per_token * static_cast<double>(tokens_saved(record));
  // What is on disk as well need only be read back.
  if (tier == StateTier::memory && record.on_disk)
    return std::min(prefill, options_.seconds_per_disk_byte * static_cast<double>(record.bytes));
  return prefill;
}

double PrefixIndex::weight(const Record& record, StateTier tier) const {
  return (1.0 + record.hits) * seconds_saved(record, tier) / static_cast<double>(record.bytes);
}

PrefixIndex::QueueKey PrefixIndex::queue_key(const Record& record, StateTier tier) const {
  ++looked_at_;
  return {record.kind != StateKind::grid, static_cast<int>(std::floor(2.0 * std::log2(weight(record, tier))))};
}

void PrefixIndex::queue(EntryId id, Record& record) {
  if (record.pins > 0) return;
  for (const StateTier tier : kTiers) {
    if (!is_in(record, tier)) continue;
    const QueueKey key = queue_key(record, tier);
    record.queued[index(tier)] = key;
    queues_[index(tier)][key].emplace(record.last, id);
  }
}

void PrefixIndex::unqueue(EntryId id, Record& record) {
  for (const StateTier tier : kTiers) {
    auto& key = record.queued[index(tier)];
    if (!key) continue;
    const auto found = queues_[index(tier)].find(*key);
    found->second.erase({record.last, id});
    if (found->second.empty()) queues_[index(tier)].erase(found);
    key.reset();
  }
}

// Weights change when a state above comes or goes. They are looked at again when an entry gets to the front of its
// queue, and it moves to the right one then.
void PrefixIndex::settle(StateTier tier) {
  auto& queues = queues_[index(tier)];
  bool moved = true;
  while (moved) {
    moved = false;
    for (auto it = queues.begin(); it != queues.end();) {
      Queue& queue = it->second;
      while (!queue.empty()) {
        const auto first = *queue.begin();
        Record& record = records_.at(first.second);
        const QueueKey key = queue_key(record, tier);
        if (key == it->first) break;
        queue.erase(queue.begin());
        queues[key].insert(first);
        record.queued[index(tier)] = key;
        moved = true;
      }
      it = queue.empty() ? queues.erase(it) : std::next(it);
    }
  }
}

std::optional<PrefixIndex::EntryId> PrefixIndex::choose_victim(StateTier tier) {
  settle(tier);
  const auto& queues = queues_[index(tier)];
  std::optional<EntryId> victim;
  double least = 0;
  for (const auto& [key, queue] : queues) {
    const bool kept_kind = key.first;
    if (kept_kind && victim && at(*victim).kind == StateKind::grid) break;
    const auto& [last, id] = *queue.begin();
    const double value = weight(at(id), tier) / static_cast<double>(lookups_ - last + 1);
    if (!victim || value < least) {
      victim = id;
      least = value;
    }
  }
  return victim;
}

void PrefixIndex::place(Record& record, StateTier tier) {
  (tier == StateTier::memory ? record.in_memory : record.on_disk) = true;
  used_[index(tier)] += record.bytes;
  if (record.pins > 0) pinned_[index(tier)] += record.bytes;
}

void PrefixIndex::displace(Record& record, StateTier tier) {
  (tier == StateTier::memory ? record.in_memory : record.on_disk) = false;
  used_[index(tier)] -= record.bytes;
}

void PrefixIndex::enter(EntryId id, StateTier tier) {
  Record& record = at(id);
  if (is_in(record, tier)) return;
  KRAIT_CHECK(fits(tier, record.bytes), "{} bytes do not fit beside {} into {}", record.bytes, used(tier),
              budget(tier));
  unqueue(id, record);
  place(record, tier);
  queue(id, record);
}

void PrefixIndex::leave(EntryId id, StateTier tier) {
  Record& record = at(id);
  KRAIT_CHECK(is_in(record, tier) && record.pins == 0, "entry {} is not there, or has {} pins", id, record.pins);
  if (is_in(record, tier == StateTier::memory ? StateTier::disk : StateTier::memory)) {
    unqueue(id, record);
    displace(record, tier);
    queue(id, record);
  } else {
    retire(id, true);
  }
}

void PrefixIndex::pin(EntryId id) {
  Record& record = at(id);
  if (record.pins++ > 0) return;
  unqueue(id, record);
  for (const StateTier tier : kTiers)
    if (is_in(record, tier)) pinned_[index(tier)] += record.bytes;
}

void PrefixIndex::unpin(EntryId id) {
  Record& record = at(id);
  KRAIT_CHECK(record.pins > 0, "entry {} has no pins", id);
  if (--record.pins > 0) return;
  for (const StateTier tier : kTiers)
    if (is_in(record, tier)) pinned_[index(tier)] -= record.bytes;
  queue(id, record);
}

void PrefixIndex::retire(EntryId id, bool leave_ghost) {
  Record& record = at(id);
  KRAIT_CHECK(record.pins == 0, "entry {} has {} pins", id, record.pins);
  unqueue(id, record);
  for (const StateTier tier : kTiers)
    if (is_in(record, tier)) displace(record, tier);
  record.is_ghost = true;
  record.ghost = ghosts_.insert(ghosts_.end(), id);
  if (leave_ghost) {
    trim_ghosts();
  } else {
    drop_ghost(id);
  }
}

void PrefixIndex::drop_ghost(EntryId id) {
  const auto found = records_.find(id);
  tree_.remove(found->second.node);
  ghosts_.erase(found->second.ghost);
  records_.erase(found);
}

void PrefixIndex::trim_ghosts() {
  while (!ghosts_.empty() && (ghosts_.size() > options_.ghosts || tree_.tokens() > options_.path_tokens))
    drop_ghost(ghosts_.front());
}

}  // namespace krait::runtime
