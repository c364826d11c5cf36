// States of sequences that are set aside and have no room in memory: written to files by a thread of its own, and read
// back when their sequence's turn comes, to the bit. Unlike the store (state_store.h) nothing is found here by others,
// and nothing outlives the process: files that another one left are removed.
//
//   park -> writing -> parked --fetch--> reading -> ready --take-->
//
// A state that is still being written can be taken at once. One that could not be written or read back is lost: its
// sequence computes it anew.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "krait/core/error.h"
#include "krait/formats/state_file.h"
#include "krait/runtime/engine.h"
#include "krait/runtime/state.h"

namespace krait::runtime {

struct StateParkingOptions {
  std::filesystem::path folder = {};  // its own: all files in it whose names end in ".parked" are removed
  std::uint64_t disk_bytes = std::uint64_t{8} << 30;
};

// Thread-safe. Must not outlive the engine.
class StateParking {
 public:
  static Result<std::unique_ptr<StateParking>> open(Engine& engine, formats::StateIdentity identity,
                                                    const StateParkingOptions& options);
  ~StateParking();  // waits for the file under way; removes all
  StateParking(const StateParking&) = delete;
  StateParking& operator=(const StateParking&) = delete;

  using Ticket = std::uint64_t;
  enum class Stage : std::uint8_t { writing, parked, reading, ready, lost };

  // None where it does not fit on the disk any more. Its memory is free once it is written, if nobody else has it.
  std::optional<Ticket> park(State state);
  Stage stage(Ticket ticket) const;
  // Begins to read a parked one. Where the engine has no memory for it, it is parked again.
  void fetch(Ticket ticket);
  // Of one that is writing or ready; the ticket is done with.
  State take(Ticket ticket);
  void drop(Ticket ticket);

  std::int64_t writing() const;    // states whose memory will be free in a moment
  std::int64_t in_memory() const;  // these, and those that are coming
  struct Totals {
    std::uint64_t parked = 0;  // since the start
    std::uint64_t fetched = 0;
    std::uint64_t lost = 0;
    std::uint64_t bytes = 0;  // on the disk now
  };
  Totals totals() const;

 private:
  struct Entry {
    Stage stage = Stage::writing;
    State state = {};
    std::uint64_t bytes = 0;  // in memory, and about that on the disk
    bool on_disk = false;
  };
  StateParking(Engine& engine, formats::StateIdentity identity, const StateParkingOptions& options);
  void work();
  std::filesystem::path path_of(Ticket ticket) const;
  Result<void> write(Ticket ticket, const State& state) const;
  void erase(std::map<Ticket, Entry>::iterator entry);  // with the mutex held

  Engine& engine_;
  const formats::StateIdentity identity_;
  const StateParkingOptions options_;
  mutable std::mutex mutex_;  // of all below
  std::condition_variable wake_;
  std::map<Ticket, Entry> entries_;
  std::deque<Ticket> jobs_;
  Ticket last_ticket_ = 0;
  std::uint64_t reserved_ = 0;  // bytes of entries
  Totals totals_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace krait::runtime
