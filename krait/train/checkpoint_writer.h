// Writes checkpoints while training goes on (DataStates-LLM: Maurya et al., HPDC 2024, arXiv 2406.10707). A step's
// forward and backward do not change the state, so a thread of the writer copies it into memory of the pool meanwhile;
// what it has not got to when the optimiser wants to change it is copied by all threads, and that is what the step
// waits for. The thread then brings the copy to the disk:
//
//   data file (its header, which holds the checksums, last) -> fsync -> fsync of the folder
//   -> manifest under a temporary name -> fsync -> rename -> fsync of the folder: the checkpoint is committed
//   -> checkpoints beyond the last `keep_last` are removed, manifest first
//
// Killed anywhere, it leaves the last committed checkpoint whole; what it did not finish is removed when the folder is
// opened next. What goes wrong is reported and decided upon by the owner; a failed write leaves the writer usable.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/thread_pool.h"
#include "krait/train/checkpoint_manifest.h"
#include "krait/train/checkpoint_state.h"
#include "krait/train/file_engine.h"
#include "krait/train/size_class_pool.h"

namespace krait::train {

enum class WhenBusy : std::uint8_t {
  kWait,  // until an earlier snapshot is written
  kSkip,  // this checkpoint
};

struct CheckpointOptions {
  std::filesystem::path folder = {};  // made if need be
  int keep_last = 3;                  // 0: all
  int snapshots = 1;  // that may be waiting for the disk or on their way, each with memory for the state
  WhenBusy when_busy = WhenBusy::kWait;
  FileEngineKind engine = FileEngineKind::kAutomatic;
  bool direct = true;  // past the system's memory for files, where the file system can
};

// What became of one save().
struct CheckpointReport {
  CheckpointId id;
  std::uint64_t bytes = 0;       // of the data file
  double waited_seconds = 0;     // for an earlier snapshot
  double snapshot_seconds = 0;   // that the caller spent on copying, or waiting for it
  double write_seconds = 0;      // until it was committed, or failed
  Result<void> committed;        // kResourceExhausted for a full disk, kInputOutput
  std::vector<Error> leftovers;  // older checkpoints that could not be removed
};

enum class SaveOutcome : std::uint8_t { kStarted, kSkipped };

// For one thread. Must not outlive the pools.
class CheckpointWriter {
 public:
  // kResourceExhausted when another writer has the folder. Sweeps up what an interrupted one left there.
  static Result<std::unique_ptr<CheckpointWriter>> open(CheckpointOptions options, ThreadPool& threads,
                                                        SizeClassPool& memory);
  // Waits for what is under way.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Takes the memory of all snapshots, which takes the system several times as long as to copy into it, before there
  // are steps to wait. The errors of save().
  Result<void> prepare(std::span<const StateProvider* const> providers);

  // The bytes of the providers' tensors must stay as they are until settle() has returned. kInvalidArgument for states
  // that make no file, such as a name given twice; kResourceExhausted when the pool has no memory for the snapshot.
  Result<SaveOutcome> begin_save(std::int64_t step, std::span<const StateProvider* const> providers);
  // When it returns the snapshot is taken; at once where it is already, or none was begun.
  void settle();
  // Both, one after the other.
  Result<SaveOutcome> save(std::int64_t step, std::span<const StateProvider* const> providers);

  // Writes tensors one after the other from where they are, piecewise ones among them, and returns when the checkpoint
  // is committed or failed, which its report says: for states that are too large to be in memory twice. Waits for what
  // is under way.
  Result<void> save_in_pieces(std::int64_t step, std::span<const StateProvider* const> providers);

  // Those that ended since the last call and are settled, in the order of their saves.
  std::vector<CheckpointReport> take_reports();
  // The same after everything under way was settled and has ended.
  std::vector<CheckpointReport> finish();

  std::string_view engine_name() const;  // "io_uring" or "threads"

 private:
  struct Parts;
  explicit CheckpointWriter(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace krait::train
