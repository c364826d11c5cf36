// Reads and writes of long ranges of files that go on while the caller does something else. A transfer is cut into
// pieces, of which a bounded number is under way; the rest is put in as pieces finish, which happens inside the calls
// of this class. What the system moved only in part is gone on with.
//
// A descriptor opened with O_DIRECT wants memory, offset and length in multiples of what the file system says (4096
// everywhere we know). Where the system refuses a piece nevertheless (EINVAL), the flag is taken from the descriptor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string_view>

#include "krait/core/error.h"
#include "krait/train/file_piece_queue.h"

namespace krait::train {

enum class FileEngineKind : std::uint8_t {
  kAutomatic,  // io_uring where the system allows it, threads elsewhere
  kUring,
  kThreads,
};

// For one thread at a time.
class FileEngine {
 public:
  using Transfer = std::uint64_t;
  static constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
  static constexpr std::size_t kDepth = 8;

  // kUnsupported where io_uring is asked for and not to be had.
  static Result<std::unique_ptr<FileEngine>> create(FileEngineKind kind = FileEngineKind::kAutomatic);
  ~FileEngine() { abandon(); }
  FileEngine(const FileEngine&) = delete;
  FileEngine& operator=(const FileEngine&) = delete;

  std::string_view name() const { return queue_->name(); }  // "io_uring" or "threads"

  // The memory must stay as it is until wait() has returned.
  Transfer read(int descriptor, std::uint64_t offset, std::span<std::byte> into);
  Transfer write(int descriptor, std::uint64_t offset, std::span<const std::byte> from);
  // Whether wait() would return at once. Keeps transfers going.
  bool finished(Transfer transfer);
  // The errno of the first piece that failed, or 0; ENODATA where a file ends before a read does. Each transfer is
  // waited for once.
  int wait(Transfer transfer);
  // Waits for one piece of whatever transfers there are, and puts others in. Returns at once where none is under way.
  void advance();
  // Forgets all transfers, once no piece of them is under way.
  void abandon();

 private:
  struct Progress {
    FilePiece rest;  // what no piece was made of yet
    std::size_t under_way = 0;
    int error = 0;
    bool complete() const { return under_way == 0 && rest.bytes == 0; }
  };
  struct Slot {
    Transfer transfer = 0;
    FilePiece piece;
    bool tried_again = false;
  };

  explicit FileEngine(std::unique_ptr<FilePieceQueue> queue);
  Transfer add(FilePiece all);
  void fill();
  // Whether there was a piece to take note of.
  bool take_finished(bool block);
  void take_note(Slot& slot, std::size_t index, std::int64_t result);

  std::unique_ptr<FilePieceQueue> queue_;
  std::array<Slot, kDepth> slots_;
  std::deque<std::size_t> free_slots_;
  std::map<Transfer, Progress> transfers_;
  std::deque<Transfer> unfilled_;  // those with a rest, the oldest first
  Transfer next_ = 1;
};

}  // namespace krait::train
