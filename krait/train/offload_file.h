// Tensors that are needed one layer after another, such as the moments of an optimiser, in a file instead of in memory
// (MemAscend, Liang et al. 2025, arXiv 2505.23254). Each has its extent in one file whose place on the disk is taken
// beforehand; a bounded amount of memory holds those in use, those being read ahead and those being written behind.
//
//   reserve -> prefetch (a hint) -> acquire (waits until it is in memory) -> release (dirty: written behind) -> ...
//
// A thread of the file's own reads and writes, past the system's memory for files where it can. What was never written
// reads as zeros. The file has no name, so it goes away with the process, however that ends: it is no checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/file_engine.h"
#include "krait/train/size_class_pool.h"

namespace krait::train {

struct OffloadOptions {
  std::filesystem::path folder = {};  // on the disk that is to hold the file
  std::uint64_t memory_bytes = 0;     // of all buffers
  FileEngineKind engine = FileEngineKind::kAutomatic;
  bool direct = true;
};

// The memory that a run over layers needs, from the first to the last or back: the layer in use, `ahead` layers that
// are being read and `behind` that are being written. `layers` holds the bytes of each layer's tensors.
//   max over i of sum of pages of layers[i - behind … i + ahead]
std::uint64_t predicted_peak_bytes(std::span<const std::vector<std::uint64_t>> layers, int ahead, int behind);

// Thread-safe; a slot acquired by several has the same bytes for all of them.
class OffloadFile {
 public:
  using Slot = std::uint32_t;
  enum class Content : std::uint8_t { kKept, kOverwritten };

  static Result<std::unique_ptr<OffloadFile>> create(const OffloadOptions& options);
  // Drops what is still to be written.
  ~OffloadFile();
  OffloadFile(const OffloadFile&) = delete;
  OffloadFile& operator=(const OffloadFile&) = delete;

  // An extent for so many bytes. kResourceExhausted where the disk is full, or where they could never be in memory.
  Result<Slot> reserve(std::string name, std::uint64_t bytes);
  // Announces the next use of a slot: those announced are read in this order, as soon as there is memory that is
  // neither in use nor announced before them. Nothing else is needed of the caller for it to go on.
  void prefetch(Slot slot);
  // Valid until it is released. kInputOutput where it cannot be read; kResourceExhausted where what is in use leaves
  // too little memory; and the error of a write where memory is full of what could not be written.
  // With kOverwritten the file is not read, and the bytes are any; all of them have to be written then.
  Result<std::span<std::byte>> acquire(Slot slot, Content content = Content::kKept);
  // `dirty`: the bytes were changed, and are written behind. Gives the error of a write that failed since the last
  // call of this or of flush(); what it was to write stays in memory, and flush() tries again.
  Result<void> release(Slot slot, bool dirty);
  // Waits until the file holds everything that was released.
  Result<void> flush();

  bool is_in_memory(Slot slot) const;  // so that acquire() would not wait
  std::uint64_t file_bytes() const;
  SizeClassPool::Use memory_use() const;
  std::string_view engine_name() const;

 private:
  struct Parts;
  explicit OffloadFile(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace krait::train
