#include "krait/train/file_engine.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "krait/core/check.h"

namespace krait::train {
namespace {

// From now on the descriptor goes through the system's memory. Whether that could be brought about.
bool stop_direct(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  return flags >= 0 && ::fcntl(descriptor, F_SETFL, flags & ~O_DIRECT) == 0;
}

void shorten(FilePiece& piece, std::size_t bytes) {
  piece.offset += bytes;
  piece.data += bytes;
  piece.bytes -= bytes;
}

}  // namespace

Result<std::unique_ptr<FileEngine>> FileEngine::create(FileEngineKind kind) {
  std::unique_ptr<FilePieceQueue> queue;
  if (kind != FileEngineKind::kThreads) queue = open_uring_queue(kDepth);
  if (kind == FileEngineKind::kUring && queue == nullptr) {
    return fail(ErrorCode::kUnsupported,
                "[storage] the system allows no io_uring, or krait was built without liburing");
  }
  if (queue == nullptr) queue = open_thread_queue(kDepth);
  return std::unique_ptr<FileEngine>(new FileEngine(std::move(queue)));
}

FileEngine::FileEngine(std::unique_ptr<FilePieceQueue> queue) : queue_(std::move(queue)) {
  for (std::size_t i = 0; i < kDepth; ++i) free_slots_.push_back(i);
}

void FileEngine::abandon() {
  unfilled_.clear();
  while (free_slots_.size() < kDepth) take_finished(true);
  transfers_.clear();
}

FileEngine::Transfer FileEngine::read(int descriptor, std::uint64_t offset, std::span<std::byte> into) {
  return add({descriptor, false, offset, into.data(), into.size()});
}

FileEngine::Transfer FileEngine::write(int descriptor, std::uint64_t offset, std::span<const std::byte> from) {
  return add({descriptor, true, offset, const_cast<std::byte*>(from.data()), from.size()});
}

FileEngine::Transfer FileEngine::add(FilePiece all) {
  const Transfer transfer = next_++;
  transfers_.emplace(transfer, Progress{all, 0, 0});
  unfilled_.push_back(transfer);
  fill();
  return transfer;
}

void FileEngine::fill() {
  while (!unfilled_.empty()) {
    Progress& progress = transfers_.at(unfilled_.front());
    if (progress.error != 0) progress.rest.bytes = 0;
    if (progress.rest.bytes == 0) {
      unfilled_.pop_front();
      continue;
    }
    if (free_slots_.empty()) return;
    const std::size_t index = free_slots_.front();
    free_slots_.pop_front();
    Slot& slot = slots_[index];
    slot = {unfilled_.front(), progress.rest, false};
    slot.piece.bytes = std::min(kPieceBytes, progress.rest.bytes);
    shorten(progress.rest, slot.piece.bytes);
    ++progress.under_way;
    queue_->submit(index, slot.piece);
  }
}

void FileEngine::take_note(Slot& slot, std::size_t index, std::int64_t result) {
  Progress& progress = transfers_.at(slot.transfer);
  const bool again = result == -EINTR || result == -EAGAIN;
  // Several pieces may have been refused before the first of them shows here: each has a second try.
  const bool unaligned =
      result == -EINVAL && !std::exchange(slot.tried_again, true) && stop_direct(slot.piece.descriptor);
  if (again || unaligned || (result > 0 && static_cast<std::size_t>(result) < slot.piece.bytes)) {
    if (result > 0) shorten(slot.piece, static_cast<std::size_t>(result));
    queue_->submit(index, slot.piece);
    return;
  }
  if (result <= 0 && progress.error == 0) {
    progress.error = result < 0 ? static_cast<int>(-result) : slot.piece.writes ? EIO : ENODATA;
  }
  --progress.under_way;
  free_slots_.push_back(index);
}

bool FileEngine::take_finished(bool block) {
  FinishedPiece finished;
  if (free_slots_.size() == kDepth || !queue_->next(finished, block)) return false;
  take_note(slots_[finished.slot], finished.slot, finished.result);
  return true;
}

bool FileEngine::finished(Transfer transfer) {
  while (take_finished(false)) fill();
  fill();
  const auto found = transfers_.find(transfer);
  KRAIT_CHECK(found != transfers_.end(), "transfer {} was waited for already", transfer);
  return found->second.complete();
}

void FileEngine::advance() {
  take_finished(true);
  fill();
}

int FileEngine::wait(Transfer transfer) {
  while (!finished(transfer)) advance();
  const int error = transfers_.at(transfer).error;
  std::erase(unfilled_, transfer);
  transfers_.erase(transfer);
  return error;
}

}  // namespace krait::train
