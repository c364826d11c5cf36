#include "krait/core/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

namespace krait {
inline namespace core {
namespace {

std::size_t round_up(std::size_t bytes, std::size_t alignment) {
  if (bytes > std::numeric_limits<std::size_t>::max() - 2 * alignment) throw std::bad_alloc();
  return (bytes + alignment - 1) / alignment * alignment;
}

// Pages come from the kernel, zero and untouched until someone writes to them.
std::byte* map_huge(std::size_t bytes) {
  constexpr std::size_t kHuge = AlignedBuffer::kHugePage;
  const std::size_t mapped = bytes + kHuge;
  void* address = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw std::bad_alloc();
  auto* first = static_cast<std::byte*>(address);
  const std::size_t before = (kHuge - reinterpret_cast<std::uintptr_t>(first) % kHuge) % kHuge;
  if (before > 0) ::munmap(first, before);
  if (before < kHuge) ::munmap(first + before + bytes, kHuge - before);
  // Advice only: where the kernel has no transparent huge pages this changes nothing.
  ::madvise(first + before, bytes, MADV_HUGEPAGE);
  return first + before;
}

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  if (bytes >= kHugePage) {
    data_ = map_huge(round_up(bytes, kHugePage));
    return;
  }
  const std::size_t rounded = round_up(bytes, kAlignment);
  data_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
  if (data_ == nullptr) throw std::bad_alloc();
  std::memset(data_, 0, rounded);
}

AlignedBuffer::~AlignedBuffer() {
  if (bytes_ >= kHugePage) {
    ::munmap(data_, round_up(bytes_, kHugePage));
  } else {
    std::free(data_);
  }
}

}  // namespace core
}  // namespace krait
