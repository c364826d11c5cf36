// The queue over threads that call pread and pwrite.
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "krait/train/file_piece_queue.h"
#include "krait/train/quiet_thread.h"

namespace krait::train {
namespace {

// Enough for one to wait for the disk while the other copies into the system's memory.
constexpr int kThreads = 2;

class ThreadQueue final : public FilePieceQueue {
 public:
  ThreadQueue() {
    for (int i = 0; i < kThreads; ++i) threads_.push_back(quiet_thread([this] { work(); }));
  }

  ~ThreadQueue() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    waiting_changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::string_view name() const override { return "threads"; }

  void submit(std::size_t slot, const FilePiece& piece) override {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back({slot, piece});
    }
    waiting_changed_.notify_one();
  }

  bool next(FinishedPiece& finished, bool block) override {
    std::unique_lock lock(mutex_);
    if (block) finished_changed_.wait(lock, [this] { return !finished_.empty(); });
    if (finished_.empty()) return false;
    finished = finished_.front();
    finished_.pop_front();
    return true;
  }

 private:
  struct Waiting {
    std::size_t slot = 0;
    FilePiece piece;
  };

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      waiting_changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      const auto [slot, piece] = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      const auto offset = static_cast<off_t>(piece.offset);
      const ssize_t moved = piece.writes ? ::pwrite(piece.descriptor, piece.data, piece.bytes, offset)
                                         : ::pread(piece.descriptor, piece.data, piece.bytes, offset);
      const std::int64_t result = moved < 0 ? -errno : moved;
      lock.lock();
      finished_.push_back({slot, result});
      finished_changed_.notify_one();
    }
  }

  std::mutex mutex_;  // of all below but the threads
  std::condition_variable waiting_changed_, finished_changed_;
  std::deque<Waiting> waiting_;
  std::deque<FinishedPiece> finished_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<FilePieceQueue> open_thread_queue(std::size_t) { return std::make_unique<ThreadQueue>(); }

}  // namespace krait::train
