#include "krait/runtime/slab.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "krait/core/check.h"
#include "krait/core/error.h"

namespace krait::runtime {

Block::Block(const Block& other) : slab_(other.slab_), index_(other.index_) {
  if (slab_ != nullptr) slab_->references(index_).fetch_add(1, std::memory_order_relaxed);
}

Block::~Block() {
  if (slab_ != nullptr) slab_->drop(index_);
}

const std::byte* Block::data() const { return slab_ == nullptr ? nullptr : slab_->at(index_); }

Ownership Block::ownership() const {
  if (slab_ == nullptr) return Ownership::kFree;
  // Whoever let go of it before has finished reading: what its holder writes next must come after.
  const auto references = slab_->references(index_).load(std::memory_order_acquire);
  return references == 1 ? Ownership::kExclusive : Ownership::kShared;
}

std::byte* Block::writable() {
  KRAIT_CHECK(slab_ != nullptr, "no block to write to");
  if (ownership() == Ownership::kShared) {
    Block copy = slab_->take(false);
    std::memcpy(slab_->at(copy.index_), slab_->at(index_), slab_->block_bytes_);
    *this = std::move(copy);
  }
  return slab_->at(index_);
}

Slab::Slab(const char* what, std::uint64_t block_bytes, std::uint64_t capacity)
    : what_(what), block_bytes_(block_bytes), capacity_(capacity) {
  constexpr std::uint64_t kLine = AlignedBuffer::kAlignment;
  constexpr std::uint64_t kHuge = AlignedBuffer::kHugePage;
  stride_ = std::max(kLine, (block_bytes + kLine - 1) / kLine * kLine);
  if (capacity_ == 0) return;
  KRAIT_CHECK(capacity_ <= std::numeric_limits<std::uint32_t>::max() &&
                  stride_ <= (std::numeric_limits<std::uint64_t>::max() >> 1) / capacity_,
              "{} blocks of {} bytes are too many to count", capacity_, stride_);
  reserved_bytes_ = capacity_ * stride_ + kHuge;
  reserved_ =
      ::mmap(nullptr, reserved_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved_ == MAP_FAILED) {
    throw ExhaustedError(fmt::format("no addresses for {} {}s of {} bytes", capacity_, what_, block_bytes_),
                         "ask for less memory for states");
  }
  const auto address = reinterpret_cast<std::uintptr_t>(reserved_);
  first_ = static_cast<std::byte*>(reserved_) + (kHuge - address % kHuge) % kHuge;
  // Of a few small blocks most of a huge page would be touched for nothing. Advice only, as in AlignedBuffer.
  if (stride_ >= kHuge / 8) ::madvise(first_, capacity_ * stride_, MADV_HUGEPAGE);
  references_ = AlignedBuffer(capacity_ * sizeof(std::uint32_t));
}

Slab::~Slab() {
  if (reserved_ != nullptr) ::munmap(reserved_, reserved_bytes_);
}

Block Slab::take() { return take(true); }

Block Slab::take(bool zeroed) {
  std::uint32_t index = 0;
  bool fresh = false;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else if (fresh_ < capacity_) {
      index = static_cast<std::uint32_t>(fresh_++);
      fresh = true;
    } else {
      throw ExhaustedError(fmt::format("all {} {}s of {} bytes are in use", capacity_, what_, block_bytes_),
                           "drop some, or give states more memory");
    }
  }
  KRAIT_CHECK_EQ(references(index).load(std::memory_order_relaxed), 0U);
  references(index).store(1, std::memory_order_relaxed);
  in_use_.fetch_add(1, std::memory_order_relaxed);
  if (zeroed && !fresh) std::memset(at(index), 0, block_bytes_);
  return Block(this, index);
}

void Slab::drop(std::uint32_t index) {
  if (references(index).fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  in_use_.fetch_sub(1, std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  free_.push_back(index);
}

std::uint64_t Slab::touched_bytes() const {
  const std::lock_guard lock(mutex_);
  return fresh_ * stride_;
}

}  // namespace krait::runtime
