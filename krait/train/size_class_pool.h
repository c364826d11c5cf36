// Memory for buffers of a few sizes that come and go many times: tensors on their way from and to a file, the image of
// a checkpoint. A pool of buffers that are all as large as the largest one asked for wastes most of them (MemAscend,
// Liang et al. 2025, arXiv 2505.23254, finds 73 % of the memory), and so does rounding up to powers of two. Here
//
//   a class is a size in whole pages of 4096 bytes, which is also how blocks are aligned;
//   a block that was given back serves for its own class and, where the pool is not exact, for smaller ones that would
//   waste up to 1/16 of it;
//   when the limit would be passed, blocks that nobody uses go back to the system, the longest unused first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <list>
#include <mutex>
#include <span>
#include <utility>

#include "krait/core/error.h"

namespace krait::train {

class SizeClassPool;

// Memory of the pool, given back when dropped. Must not outlive it.
class PoolBlock {
 public:
  PoolBlock() = default;
  PoolBlock(PoolBlock&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), memory_(other.memory_), bytes_(other.bytes_) {}
  PoolBlock& operator=(PoolBlock&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PoolBlock();

  explicit operator bool() const { return pool_ != nullptr; }
  // As many as were asked for. What they hold is what the last user left.
  std::span<std::byte> bytes() const { return memory_.first(bytes_); }
  // Up to the end of the last page.
  std::span<std::byte> pages() const { return memory_.first(page_bytes()); }

 private:
  friend class SizeClassPool;
  PoolBlock(SizeClassPool* pool, std::span<std::byte> memory, std::size_t bytes)
      : pool_(pool), memory_(memory), bytes_(bytes) {}
  std::size_t page_bytes() const;

  SizeClassPool* pool_ = nullptr;
  std::span<std::byte> memory_;
  std::size_t bytes_ = 0;
};

// Thread-safe.
class SizeClassPool {
 public:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

  struct Use {
    std::uint64_t asked = 0;       // bytes of blocks in use, as they were asked for
    std::uint64_t held = 0;        // what these blocks have of memory
    std::uint64_t reserved = 0;    // with those that wait for their next user
    std::uint64_t peak_asked = 0;  // the most there has been of each
    std::uint64_t peak_reserved = 0;
  };

  enum class Fit : std::uint8_t {
    kNear,   // for sizes that change a little from one time to the next
    kExact,  // what is held is what was asked for in whole pages, so that a sum of sizes says what fits into the limit
  };

  // Never has more than `limit` bytes of the system.
  explicit SizeClassPool(std::uint64_t limit = kNoLimit, Fit fit = Fit::kNear) : limit_(limit), fit_(fit) {}
  ~SizeClassPool();
  SizeClassPool(const SizeClassPool&) = delete;
  SizeClassPool& operator=(const SizeClassPool&) = delete;

  // Whole pages for so many bytes.
  static constexpr std::uint64_t class_bytes(std::uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

  // kResourceExhausted where blocks in use leave too little of the limit, or the system has no memory.
  Result<PoolBlock> take(std::size_t bytes);
  // Gives blocks that nobody uses back to the system, the longest unused first, until no more than `kept` are reserved.
  void trim(std::uint64_t kept = 0);

  Use use() const;
  std::uint64_t limit() const { return limit_; }

 private:
  friend class PoolBlock;
  void give_back(std::span<std::byte> memory, std::size_t bytes);
  void drop_oldest();

  const std::uint64_t limit_;
  const Fit fit_;
  mutable std::mutex mutex_;              // of all below
  std::list<std::span<std::byte>> free_;  // the longest unused first
  Use use_;
};

}  // namespace krait::train
