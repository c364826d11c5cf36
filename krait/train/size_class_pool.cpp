#include "krait/train/size_class_pool.h"

#include <sys/mman.h>

#include <algorithm>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"

namespace krait::train {
namespace {

// Addresses of a large block begin where a huge page can stand; its end is not rounded up, since a whole huge page may
// be given to what is touched of the last one. Empty when the system has no more.
std::span<std::byte> map_pages(std::size_t bytes) {
  constexpr std::size_t kHuge = AlignedBuffer::kHugePage;
  const std::size_t extra = bytes >= kHuge ? kHuge : 0;
  void* address = ::mmap(nullptr, bytes + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return {};
  auto* first = static_cast<std::byte*>(address);
  if (extra == 0) return {first, bytes};
  const std::size_t before = (kHuge - reinterpret_cast<std::uintptr_t>(first) % kHuge) % kHuge;
  if (before > 0) ::munmap(first, before);
  if (before < extra) ::munmap(first + before + bytes, extra - before);
  ::madvise(first + before, bytes / kHuge * kHuge, MADV_HUGEPAGE);  // advice only
  return {first + before, bytes};
}

}  // namespace

PoolBlock::~PoolBlock() {
  if (pool_ != nullptr) pool_->give_back(memory_, bytes_);
}

std::size_t PoolBlock::page_bytes() const { return SizeClassPool::class_bytes(bytes_); }

SizeClassPool::~SizeClassPool() {
  trim();
  // Blocks in use would dangle; nobody can be told here, so their memory stays.
}

Result<PoolBlock> SizeClassPool::take(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) {
    return fail(ErrorCode::kResourceExhausted, "[memory] {} bytes are more than there are addresses for", bytes);
  }
  const std::size_t wanted = std::max<std::size_t>(kPage, class_bytes(bytes));
  const std::lock_guard lock(mutex_);
  // The smallest that fits.
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const std::size_t waste = fit_ == Fit::kNear ? it->size() / 16 : 0;
    const bool fits = it->size() >= wanted && it->size() - wanted <= waste;
    if (fits && (best == free_.end() || it->size() < best->size())) best = it;
  }
  std::span<std::byte> memory;
  if (best != free_.end()) {
    memory = *best;
    free_.erase(best);
  } else {
    while (!free_.empty() && (wanted > limit_ || use_.reserved > limit_ - wanted)) drop_oldest();
    if (wanted > limit_ || use_.reserved > limit_ - wanted) {
      return fail(ErrorCode::kResourceExhausted,
                  "[memory] a block of {} bytes does not fit: {} of the {} that buffers may take are in use", wanted,
                  use_.held, limit_);
    }
    memory = map_pages(wanted);
    if (memory.empty()) {
      return fail(ErrorCode::kResourceExhausted, "[memory] the system has no {} bytes for a buffer", wanted);
    }
    use_.reserved += wanted;
    use_.peak_reserved = std::max(use_.peak_reserved, use_.reserved);
  }
  use_.asked += bytes;
  use_.held += memory.size();
  use_.peak_asked = std::max(use_.peak_asked, use_.asked);
  return PoolBlock(this, memory, bytes);
}

void SizeClassPool::give_back(std::span<std::byte> memory, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  use_.asked -= bytes;
  use_.held -= memory.size();
  free_.push_back(memory);
}

void SizeClassPool::drop_oldest() {
  const std::span<std::byte> memory = free_.front();
  free_.pop_front();
  use_.reserved -= memory.size();
  KRAIT_CHECK(::munmap(memory.data(), memory.size()) == 0, "{} bytes cannot be given back", memory.size());
}

void SizeClassPool::trim(std::uint64_t kept) {
  const std::lock_guard lock(mutex_);
  while (!free_.empty() && use_.reserved > kept) drop_oldest();
}

SizeClassPool::Use SizeClassPool::use() const {
  const std::lock_guard lock(mutex_);
  return use_;
}

}  // namespace krait::train
