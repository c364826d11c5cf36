// Memory for sequence states: bundles of one size, zeroed when handed out, reused when given back. A fork is a copy
// of one bundle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "krait/core/aligned_buffer.h"

namespace krait::runtime {

class StatePool;

// One bundle, given back to its pool on destruction. Must not outlive the pool.
class StateSlot {
 public:
  StateSlot() = default;
  StateSlot(StateSlot&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), buffer_(std::move(other.buffer_)) {}
  StateSlot& operator=(StateSlot&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  StateSlot(const StateSlot&) = delete;
  StateSlot& operator=(const StateSlot&) = delete;
  ~StateSlot();

  std::byte* data() { return buffer_.data(); }
  const std::byte* data() const { return buffer_.data(); }

 private:
  friend class StatePool;
  StateSlot(StatePool* pool, AlignedBuffer buffer) : pool_(pool), buffer_(std::move(buffer)) {}

  StatePool* pool_ = nullptr;
  AlignedBuffer buffer_;
};

// Thread-safe.
class StatePool {
 public:
  explicit StatePool(std::uint64_t bytes_per_state) : bytes_(bytes_per_state) {}
  StatePool(const StatePool&) = delete;
  StatePool& operator=(const StatePool&) = delete;

  std::uint64_t bytes_per_state() const { return bytes_; }
  StateSlot acquire();                        // the state before the first token
  StateSlot fork(const StateSlot& original);  // a copy

 private:
  friend class StateSlot;
  AlignedBuffer take(bool& fresh);
  void give_back(AlignedBuffer buffer);

  std::uint64_t bytes_;
  std::mutex mutex_;
  std::vector<AlignedBuffer> free_;
};

}  // namespace krait::runtime
