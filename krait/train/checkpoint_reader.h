// Reads checkpoints (checkpoint_manifest.h says how they are laid out). Whatever the files hold, a checkpoint that
// opens is one whose manifest and header are whole; verify() looks at every byte of the tensors.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/thread_pool.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/weight_source.h"
#include "krait/train/checkpoint_manifest.h"
#include "krait/train/checkpoint_state.h"

namespace krait::train {

class Checkpoint {
 public:
  // `manifest`: its path; the data file lies beside it.
  static Result<Checkpoint> open(const std::filesystem::path& manifest);
  // From memory, for tests and fuzzing; `data` must outlive it.
  static Result<Checkpoint> parse(const CheckpointManifest& manifest, std::span<const std::byte> data,
                                  const std::string& origin);

  // kCorrupt names the first tensor whose bytes are not those that were written.
  Result<void> verify(ThreadPool& threads) const;

  const CheckpointId& id() const { return id_; }
  std::int64_t step() const { return id_.step; }
  // PROVIDER/NAME, sorted by name.
  std::span<const formats::TensorInfo> tensors() const { return source_->tensors(); }
  // Bytes in the mapped file, valid while this lives.
  Result<TensorView> view(std::string_view name) const { return source_->view(name); }
  // Copies a tensor to where it is used. kInvalidArgument where the run has another dtype or shape than the checkpoint.
  Result<void> read(std::string_view name, DType dtype, std::span<const std::int64_t> shape,
                    std::span<std::byte> out) const;
  // The same for one that is not in memory as a whole. No more of the file stays in memory than a piece.
  Result<void> read(std::string_view name, const PiecewiseTensor& tensor) const;

 private:
  Checkpoint() = default;
  Result<TensorView> view_as(std::string_view name, DType dtype, std::span<const std::int64_t> shape,
                             std::uint64_t bytes) const;
  // Pages that were read from the file and are not needed again go back to the system.
  void release(std::span<const std::byte> part) const;
  CheckpointId id_;
  std::string origin_;
  formats::MappedFile file_;  // what the source's views point into
  std::unique_ptr<formats::WeightSource> source_;
  std::vector<std::uint32_t> checksums_;  // parallel to tensors()
};

// Fills the tensors that a provider tells, which are the run's own and may be written, from the checkpoint.
Result<void> restore_tensors(const Checkpoint& checkpoint, const StateProvider& provider);

struct NewestCheckpoint {
  Checkpoint checkpoint;
  std::vector<Error> passed_over;  // why newer ones were not taken, the newest first
};

// The one committed last that verifies. kNotFound where the folder or checkpoints are missing; kCorrupt, with the
// reason of the newest, where none of them is whole.
Result<NewestCheckpoint> open_newest_checkpoint(const std::filesystem::path& folder, ThreadPool& threads);

}  // namespace krait::train
