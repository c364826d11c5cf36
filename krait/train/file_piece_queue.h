// Pieces of files that the system reads and writes while we do something else: what FileEngine (file_engine.h) cuts its
// transfers into. Two of them do the same: io_uring, and threads that call pread and pwrite where the kernel forbids
// it, as many containers do. One thread at a time may use a queue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace krait::train {

struct FilePiece {
  int descriptor = -1;
  bool writes = false;
  std::uint64_t offset = 0;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

struct FinishedPiece {
  std::size_t slot = 0;
  std::int64_t result = 0;  // bytes that were moved, which may be fewer than asked for; or -errno
};

class FilePieceQueue {
 public:
  virtual ~FilePieceQueue() = default;
  virtual std::string_view name() const = 0;
  // `slot` < the queue's depth, and no piece of that slot is under way. Its memory stays the caller's to keep.
  virtual void submit(std::size_t slot, const FilePiece& piece) = 0;
  // One that has finished; without `block` nothing (false) where none has. Some must be under way.
  virtual bool next(FinishedPiece& finished, bool block) = 0;
};

// Null where the kernel does not give us a ring, or where krait was built without liburing.
std::unique_ptr<FilePieceQueue> open_uring_queue(std::size_t depth);
std::unique_ptr<FilePieceQueue> open_thread_queue(std::size_t depth);

}  // namespace krait::train
