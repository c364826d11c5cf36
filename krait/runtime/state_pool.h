// Memory for sequence states: bundles of one size, and pages for what grows with a sequence; both zeroed when handed
// out, reused when given back. A fork copies the bundle and shares the pages: one that would be written to is copied
// first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "krait/core/aligned_buffer.h"

namespace krait::runtime {

class StatePool;

// One state, given back to its pool on destruction. Must not outlive the pool.
class StateSlot {
 public:
  StateSlot() = default;
  StateSlot(StateSlot&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        buffer_(std::move(other.buffer_)),
        pages_(std::move(other.pages_)),
        page_data_(std::move(other.page_data_)) {}
  StateSlot& operator=(StateSlot&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(buffer_, other.buffer_);
    std::swap(pages_, other.pages_);
    std::swap(page_data_, other.page_data_);
    return *this;
  }
  StateSlot(const StateSlot&) = delete;
  StateSlot& operator=(const StateSlot&) = delete;
  ~StateSlot();

  std::byte* data() { return buffer_.data(); }
  const std::byte* data() const { return buffer_.data(); }
  std::span<std::byte* const> pages() const { return page_data_; }

  // Makes this state's own all pages that tokens [position, position + count) go to, `tokens` to a page.
  void make_room(std::int64_t position, std::int64_t count, std::int64_t tokens);

 private:
  friend class StatePool;
  using Page = std::shared_ptr<AlignedBuffer>;
  StateSlot(StatePool* pool, AlignedBuffer buffer) : pool_(pool), buffer_(std::move(buffer)) {}

  StatePool* pool_ = nullptr;
  AlignedBuffer buffer_;
  std::vector<Page> pages_;
  std::vector<std::byte*> page_data_;  // of pages_
};

// Thread-safe.
class StatePool {
 public:
  // page_bytes 0: states do not grow.
  explicit StatePool(std::uint64_t bytes_per_state, std::uint64_t page_bytes = 0)
      : bytes_(bytes_per_state), page_bytes_(page_bytes) {}
  StatePool(const StatePool&) = delete;
  StatePool& operator=(const StatePool&) = delete;

  std::uint64_t bytes_per_state() const { return bytes_; }
  std::uint64_t page_bytes() const { return page_bytes_; }
  StateSlot acquire();                        // the state before the first token
  StateSlot fork(const StateSlot& original);  // a copy
  std::uint64_t pages_in_use() const;

 private:
  friend class StateSlot;
  AlignedBuffer take(std::vector<AlignedBuffer>& from, std::uint64_t bytes, bool& fresh);
  StateSlot::Page take_page(const AlignedBuffer* original);

  std::uint64_t bytes_;
  std::uint64_t page_bytes_;
  mutable std::mutex mutex_;
  std::vector<AlignedBuffer> free_;
  std::vector<AlignedBuffer> free_pages_;
  std::uint64_t pages_in_use_ = 0;
};

}  // namespace krait::runtime
