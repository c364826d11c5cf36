// Memory for many blocks of one size: one range of addresses, reserved at once and backed by huge pages, taken from the
// system only where a block is used. Blocks are counted references:
//
//   free --take--> exclusive --a second reference--> shared --the others dropped--> exclusive --dropped--> free
//
// An exclusive block may be written to by its holder; a shared one is read-only for all of them, and who wants to write
// takes a copy first (copy on write). Nothing here knows what stands in a block.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/error.h"

namespace krait::runtime {

// The memory that the caller set for states is used up: asking again helps once some of it was given back.
class ExhaustedError : public UserError {
 public:
  using UserError::UserError;
};

class Slab;

enum class Ownership : std::uint8_t { kFree, kExclusive, kShared };

// One reference to a block. Must not outlive the slab.
class Block {
 public:
  Block() = default;
  Block(const Block& other);  // shares it
  Block(Block&& other) noexcept : slab_(std::exchange(other.slab_, nullptr)), index_(other.index_) {}
  Block& operator=(Block other) noexcept {
    std::swap(slab_, other.slab_);
    std::swap(index_, other.index_);
    return *this;
  }
  ~Block();

  explicit operator bool() const { return slab_ != nullptr; }
  const std::byte* data() const;
  Ownership ownership() const;
  // Makes the block this holder's own, a copy where it was shared, and gives its bytes. Throws what take() throws.
  std::byte* writable();

 private:
  friend class Slab;
  Block(Slab* slab, std::uint32_t index) : slab_(slab), index_(index) {}

  Slab* slab_ = nullptr;
  std::uint32_t index_ = 0;
};

// Thread-safe, but for two threads at one Block.
class Slab {
 public:
  // `what` ("state") stands in messages. Throws ExhaustedError when the system has no addresses for so much.
  Slab(const char* what, std::uint64_t block_bytes, std::uint64_t capacity);
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // An exclusive block of zero bytes. Throws ExhaustedError when all are taken.
  Block take();

  std::uint64_t block_bytes() const { return block_bytes_; }
  std::uint64_t capacity() const { return capacity_; }
  std::uint64_t in_use() const { return in_use_.load(std::memory_order_relaxed); }
  // Memory that has ever been touched, which is what the slab holds of the system's.
  std::uint64_t touched_bytes() const;

 private:
  friend class Block;
  std::byte* at(std::uint32_t index) { return first_ + index * stride_; }
  std::atomic_ref<std::uint32_t> references(std::uint32_t index) {
    return std::atomic_ref(references_.as<std::uint32_t>()[index]);
  }
  Block take(bool zeroed);
  void drop(std::uint32_t index);

  const char* what_;
  std::uint64_t block_bytes_;
  std::uint64_t stride_;
  std::uint64_t capacity_;
  void* reserved_ = nullptr;
  std::uint64_t reserved_bytes_ = 0;
  std::byte* first_ = nullptr;
  AlignedBuffer references_;  // a number a block, which takes memory only where blocks are used
  std::atomic<std::uint64_t> in_use_ = 0;
  mutable std::mutex mutex_;         // of the two below
  std::vector<std::uint32_t> free_;  // blocks that were used before, the last one used first
  std::uint64_t fresh_ = 0;          // blocks from here on have never been used, and are zero
};

}  // namespace krait::runtime
