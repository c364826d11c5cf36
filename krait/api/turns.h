// A lock whose waiters get it in the order they came. With a plain mutex, who reads a long text in pieces would take it
// again each time before anybody else has woken up.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace krait::api {

class Turns {
 public:
  void lock() {
    std::unique_lock lock(mutex_);
    const std::uint64_t mine = last_++;
    changed_.wait(lock, [&] { return mine == current_; });
  }
  void unlock() {
    {
      const std::lock_guard lock(mutex_);
      ++current_;
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t last_ = 0;     // the next who comes
  std::uint64_t current_ = 0;  // whose turn it is
};

}  // namespace krait::api
