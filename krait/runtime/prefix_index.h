// Decides which sequence states are worth keeping: where to take one while a prompt is prefilled, which stored one to
// go on from, and which to give up when a budget is full. It knows tokens, bytes and seconds; not the states, the disk
// or the clock: age is counted in lookups, so that an idle night ages nothing. docs/state_store.md says how it
// measures.
//
// States are kept at ends of prompts and replies, at junctions (where a second sequence leaves a stored path; compare
// Marconi, Pan et al. 2024), and on a sparse grid while memory is free. The victim is the entry of the least
//     value = (1 + hits) * seconds saved / (bytes * age),
// seconds saved being what prefilling from the next stored state above would cost. Entries that were evicted leave
// bounded ghosts: their paths keep finding junctions, and a miss can be told from an eviction.
//
// Not thread-safe: the store locks.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "krait/runtime/token_tree.h"

namespace krait::runtime {

enum class StateKind : std::uint8_t { prompt, reply, junction, grid };
enum class StateTier : std::uint8_t { memory, disk };

// Why a lookup ended as it did. The last two are the store's to give.
enum class LookupReason : std::uint8_t { hit, partial_hit, unseen, no_state, evicted, other_model, disabled };

struct Lookup {
  struct Snapshot {
    std::int64_t position = 0;
    StateKind kind = StateKind::prompt;
    bool operator==(const Snapshot&) const = default;
  };
  std::uint64_t entry = 0;            // 0: none
  std::int64_t position = 0;          // tokens the entry stands for
  std::int64_t tokens = 0;            // tokens asked for
  std::int64_t agreed = 0;            // tokens that agree with some path
  std::int64_t evicted_position = 0;  // of the deepest evicted state behind `position`, 0: none
  LookupReason reason = LookupReason::unseen;
  std::vector<Snapshot> snapshots;  // where to take states while prefilling the rest, rising
};
std::string to_string(const Lookup& lookup);  // one sentence

class PrefixIndex {
 public:
  using EntryId = std::uint64_t;
  static constexpr std::int64_t kAnywhere = std::numeric_limits<std::int64_t>::max();
  static constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

  struct Options {
    std::uint64_t memory_bytes = kUnlimited;
    std::uint64_t disk_bytes = 0;
    std::uint64_t state_bytes = 1;        // of a typical state: how many of the grid would fit
    double seconds_per_token = 1e-3;      // of prefilling
    double seconds_per_disk_byte = 1e-9;  // of reading a state back
    std::int64_t grid_tokens = 256;       // 0: no grid
    std::uint32_t grid_states = 8;        // the grid of one prompt takes at most so many,
    std::uint64_t grid_share = 8;         // and one in so many of those that are free; else it coarsens
    std::int64_t least_gain_tokens = 16;  // a junction or grid state must save that many
    std::size_t ghosts = 1 << 16;         // evicted entries remembered, and the tokens of all paths above which
    std::int64_t path_tokens = 16 << 20;  // the oldest of them go
  };
  struct Entry {
    std::int64_t position = 0;
    std::uint64_t bytes = 0;
    StateKind kind = StateKind::prompt;
    std::uint32_t hits = 0;
    bool in_memory = false;
    bool on_disk = false;
    int pins = 0;
  };
  enum class Refusal : std::uint8_t { none, larger_than_budget, only_pinned_left, no_free_memory };
  struct Admission {
    EntryId id = 0;  // 0: refused
    Refusal refusal = Refusal::none;
    bool existed = false;
    std::vector<EntryId> forgotten;  // entries that had to go, and are gone
  };

  explicit PrefixIndex(const Options& options);

  // The longest stored prefix of at most `at_most` tokens (all but one, when the caller needs the logits of the last),
  // counted as a hit of its entry; and where to take states on the way.
  Lookup plan(std::span<const std::int32_t> tokens, std::int64_t at_most = kAnywhere);

  // Enters the state behind these tokens. Where it does not fit, entries of less value are forgotten; a store that
  // would rather demote them makes room first, with fits, choose_victim, enter and leave.
  // `hits`: of earlier runs.
  Admission admit(std::span<const std::int32_t> prefix, StateKind kind, std::uint64_t bytes,
                  StateTier tier = StateTier::memory, std::uint32_t hits = 0);
  // Why no eviction would make so much room.
  Refusal refusal(StateKind kind, std::uint64_t bytes, StateTier tier) const;
  // The entry exactly behind these tokens; not a use of it.
  std::optional<EntryId> find(std::span<const std::int32_t> tokens) const;
  bool fits(StateTier tier, std::uint64_t bytes) const;
  // None when nothing but pinned entries is left in the tier. An untouched grid state goes before all others. It looks
  // at the oldest entry of each queue of like weight: Q queues, 2 for each doubling between the lightest and the
  // heaviest entry, so O(Q * values above an entry) however many entries there are, and O(log entries) for each that
  // moves to another queue because a state above it came or went. Entries deeper in their queue keep the weight they
  // had; among those with the right one, the victim's value is at most sqrt(2) times the least.
  std::optional<EntryId> choose_victim(StateTier tier);
  void enter(EntryId id, StateTier tier);
  void leave(EntryId id, StateTier tier);         // an entry that is nowhere any more becomes a ghost
  void forget(EntryId id) { retire(id, false); }  // without a ghost: its file was damaged, or the user asked

  void pin(EntryId id);
  void unpin(EntryId id);

  const Entry& entry(EntryId id) const { return at(id); }
  std::vector<std::int32_t> path(EntryId id) const { return tree_.path(at(id).node); }
  // What losing the entry from this tier would cost the next one who wants it.
  double seconds_saved(EntryId id, StateTier tier) const { return seconds_saved(at(id), tier); }
  std::size_t size() const { return records_.size() - ghosts_.size(); }
  std::size_t ghosts() const { return ghosts_.size(); }
  std::uint64_t used(StateTier tier) const { return used_[index(tier)]; }
  // What calls have cost so far: nodes visited and entries looked at.
  std::uint64_t operations() const { return tree_.visits() + looked_at_; }

 private:
  // Entries whose value differs by less than a factor of sqrt(2) but for their age, oldest first.
  using Queue = std::set<std::pair<std::uint64_t, EntryId>>;
  using QueueKey = std::pair<bool, int>;  // not an untouched grid state; weight in half octaves
  struct Record : Entry {
    TokenTree::NodeId node = 0;
    std::uint64_t last = 0;  // lookup that used it last
    std::array<std::optional<QueueKey>, 2> queued;
    std::list<EntryId>::iterator ghost;
    bool is_ghost = false;
  };
  static std::size_t index(StateTier tier) { return static_cast<std::size_t>(tier); }
  std::uint64_t budget(StateTier tier) const {
    return tier == StateTier::memory ? options_.memory_bytes : options_.disk_bytes;
  }
  Record& at(EntryId id);
  const Record& at(EntryId id) const;
  bool is_in(const Record& record, StateTier tier) const {
    return tier == StateTier::memory ? record.in_memory : record.on_disk;
  }
  void place(Record& record, StateTier tier);
  void displace(Record& record, StateTier tier);
  std::int64_t tokens_saved(const Record& record) const;
  double seconds_saved(const Record& record, StateTier tier) const;
  double weight(const Record& record, StateTier tier) const;
  QueueKey queue_key(const Record& record, StateTier tier) const;
  void queue(EntryId id, Record& record);
  void unqueue(EntryId id, Record& record);
  void settle(StateTier tier);
  void retire(EntryId id, bool leave_ghost);
  void drop_ghost(EntryId id);
  void trim_ghosts();
  void add_snapshots(Lookup& lookup, std::int64_t at_most) const;
  std::int64_t grid_spacing(std::int64_t tokens) const;

  Options options_;
  TokenTree tree_;
  std::unordered_map<EntryId, Record> records_;
  std::list<EntryId> ghosts_;  // oldest first
  std::array<std::map<QueueKey, Queue>, 2> queues_;
  std::array<std::uint64_t, 2> used_ = {};
  std::array<std::uint64_t, 2> pinned_ = {};  // bytes of used_ that cannot be had
  std::uint64_t lookups_ = 0;
  EntryId next_ = 1;
  mutable std::uint64_t looked_at_ = 0;
};

}  // namespace krait::runtime
