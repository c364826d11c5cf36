// Keeps states of sequences for whoever comes with the same tokens: in memory, where they share what sessions have, and
// on the disk, where they outlive the process. What is kept and where states are taken is prefix_index.h's to decide;
// the store holds the states, moves them between the tiers and counts what happens.
//
// Nobody who computes waits for the disk to write: a state is handed to a thread of the store, which encodes and writes
// it, and until then it is found in memory. When that thread is behind, states are not written, which is counted.
// States come back from the disk only after their checksums have been verified; damaged ones are dropped, and counted.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/state_file.h"
#include "krait/runtime/engine.h"
#include "krait/runtime/prefix_index.h"
#include "krait/runtime/state.h"
#include "krait/runtime/state_disk.h"

namespace krait::runtime {

struct StateStoreOptions {
  std::uint64_t memory_bytes = 0;     // of states in memory, from the engine's memory for states; 0: half of that
  std::filesystem::path folder = {};  // empty: nothing on the disk
  std::uint64_t disk_bytes = std::uint64_t{16} << 30;
  // Of states that wait to be written: so many at most, and half of what the engine has beside memory_bytes. One may
  // always wait, however large.
  std::uint64_t queue_bytes = std::uint64_t{256} << 20;
  int zstd_level = 1;
  // Whether states of the grid are written before they have been of use, where the disk has room: for processes that
  // end after a prompt or two.
  bool grid_on_disk = false;
  PrefixIndex::Options policy = {};  // its bytes are set from the above
};

struct StateStoreStatistics {
  std::array<std::uint64_t, 7> lookups = {};  // by LookupReason
  std::uint64_t tokens_asked = 0;
  std::uint64_t tokens_found = 0;
  std::uint64_t found_on_disk = 0;  // lookups answered by reading a state back

  std::uint64_t states = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t disk_bytes = 0;  // with what waits to be written, and without what others have in the folder
  std::uint64_t memory_budget = 0;
  std::uint64_t disk_budget = 0;
  std::uint64_t strangers = 0;  // states of other models in the folder
  std::uint64_t stranger_bytes = 0;

  std::uint64_t admitted = 0;
  std::uint64_t refused = 0;
  std::uint64_t left_memory = 0;
  std::uint64_t left_disk = 0;
  std::uint64_t lost = 0;  // of these, kept nowhere any more

  std::uint64_t waiting = 0;  // to be written
  std::uint64_t spilled = 0;
  std::uint64_t spills_skipped = 0;  // the queue was full, or only pinned states on the disk
  std::uint64_t spills_failed = 0;
  std::uint64_t dropped_damaged = 0;
  std::uint64_t reads_failed = 0;  // the disk did not give them back, or there was no memory for them
};

// What states must agree in to share records of a folder: what they belong to, and how they are laid out.
Hash128 owner_of(const formats::StateIdentity& identity, const models::StateLayout& layout);

// Thread-safe. Must not outlive the engine, whose memory its states stand in.
class StateStore {
 public:
  // Errors of StateDisk::open, after which a caller may go on without a folder.
  static Result<std::unique_ptr<StateStore>> open(Engine& engine, const formats::StateIdentity& identity,
                                                  const StateStoreOptions& options = {});
  // Waits for what is waiting to be written, not for more: flush() before it keeps all.
  ~StateStore();
  StateStore(const StateStore&) = delete;
  StateStore& operator=(const StateStore&) = delete;

  struct Found {
    State state;  // none: begin at the beginning
    Lookup lookup;
    bool from_disk = false;
  };
  // The state after the most tokens, of at most `at_most`. Reads from the disk where it must.
  Found find(std::span<const TokenId> tokens, std::int64_t at_most = PrefixIndex::kAnywhere);

  // Keeps the state behind these tokens, if the policy finds room for it.
  bool admit(std::span<const TokenId> tokens, const State& state, StateKind kind);

  // A state that is pinned leaves neither tier, until the process ends. False when there is none behind the tokens.
  bool pin(std::span<const TokenId> tokens);
  bool unpin(std::span<const TokenId> tokens);
  bool forget(std::span<const TokenId> tokens);

  // Gives memory of the least valuable states back to the engine; false when there was none to give. Waits for the disk
  // where all that is left waits to be written.
  bool give_back(std::uint64_t bytes);

  // Has the states written that belong on the disk and that there is room for, and waits until they are there. The
  // first error since the last flush.
  Result<void> flush();

  StateStoreStatistics statistics() const;
  bool keeps_on_disk() const { return disk_ != nullptr; }

 private:
  using EntryId = PrefixIndex::EntryId;
  struct Held {
    Hash128 prefix;
    State state;                // in memory, or waiting to be written
    std::uint64_t waiting = 0;  // the number of the job that writes it
    std::uint64_t last = 0;     // use
    bool use_changed = false;   // since it was written down
    bool missed = false;        // not written because too much was waiting
    bool loading = false;       // being read from the disk by somebody
    int pins = 0;               // by callers
  };
  struct Job {
    enum class Kind : std::uint8_t { write, remove, note_use };
    Kind kind = Kind::write;
    Hash128 prefix;
    StateDisk::Use use = {};
    // Of writes:
    EntryId entry = 0;
    std::uint64_t number = 0;
    std::uint64_t bytes = 0;
    std::vector<TokenId> tokens = {};
    State state = {};
  };

  StateStore(Engine& engine, formats::StateIdentity identity, const StateStoreOptions& options,
             std::unique_ptr<StateDisk> disk);

  // All with the mutex held.
  void take_over(std::vector<StateDisk::Record> records);
  bool make_room(StateTier tier, StateKind kind, std::uint64_t bytes);
  void leave_memory(EntryId id);
  void leave_disk(EntryId id);
  void leave_pinned(EntryId id, StateTier tier);
  void drop(EntryId id);
  bool belongs_on_disk(EntryId id) const;
  bool spill(EntryId id);
  bool queue_has_room(std::uint64_t bytes) const;
  void push(Job job);
  void use(Held& held);
  StateDisk::Use use_of(EntryId id, const Held& held) const;
  Found done(Found found);
  bool load(EntryId id, std::unique_lock<std::mutex>& lock, State& state);
  void finish(const Job& job, const Result<void>& result);

  std::uint64_t bytes_of(const State& state) const;
  Result<State> read_back(Hash128 prefix);
  Result<void> perform(const Job& job);
  void write_jobs();
  bool known_to_strangers(std::span<const TokenId> tokens) const;

  Engine& engine_;
  const formats::StateIdentity identity_;
  const StateStoreOptions options_;
  const std::unique_ptr<StateDisk> disk_;
  std::unordered_map<Hash128, std::int64_t> strangers_;
  std::vector<std::int64_t> stranger_positions_;  // rising

  mutable std::mutex mutex_;         // of all below
  std::condition_variable wake_;     // the writer
  std::condition_variable changed_;  // whoever waits for it, or for somebody's reading
  PrefixIndex index_;
  std::unordered_map<EntryId, Held> held_;
  std::deque<Job> jobs_;
  std::uint64_t queued_bytes_ = 0;  // of writes, with the one under way
  std::uint64_t last_number_ = 0;
  std::uint64_t clock_ = 0;  // of uses
  bool working_ = false;
  bool ending_ = false;
  std::optional<Error> error_;  // since the last flush
  StateStoreStatistics counts_;
  std::thread writer_;
};

}  // namespace krait::runtime
