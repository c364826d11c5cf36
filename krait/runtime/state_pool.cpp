#include "krait/runtime/state_pool.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

// A handful of states fit whatever the memory says, so that a model that has been loaded can be used.
constexpr std::uint64_t kFewest = 4;
// Beyond this a slab would be addresses and no more.
constexpr std::uint64_t kMost = std::uint64_t{1} << 22;

std::uint64_t blocks_in(std::uint64_t memory, std::uint64_t bytes) {
  return std::clamp(memory / std::max<std::uint64_t>(bytes, AlignedBuffer::kAlignment), kFewest, kMost);
}

}  // namespace

std::byte* StateSlot::make_room(std::int64_t position, std::int64_t count, std::int64_t tokens) {
  if (page_slab_->block_bytes() > 0 && count > 0) {
    const auto first = static_cast<std::size_t>(position / tokens);
    const auto last = static_cast<std::size_t>((position + count - 1) / tokens);
    KRAIT_CHECK(first <= pages_.size(), "a state of {} pages is asked for page {}", pages_.size(), first);
    for (std::size_t i = first; i <= last; ++i) {
      if (i == pages_.size()) {
        pages_.push_back(page_slab_->take());
        page_data_.push_back(pages_.back().writable());
      } else {
        page_data_[i] = pages_[i].writable();
      }
    }
  }
  return bundle_.writable();
}

bool StateSlot::belongs_to(const StatePool& pool) const { return page_slab_ == &pool.pages_; }

StatePool::StatePool(std::uint64_t bytes_per_state, std::uint64_t page_bytes, std::uint64_t memory)
    : bundles_("state", bytes_per_state, blocks_in(memory, bytes_per_state)),
      pages_("page of keys and values", page_bytes, page_bytes == 0 ? 0 : blocks_in(memory, page_bytes)) {}

StateSlot StatePool::acquire() {
  StateSlot slot;
  slot.bundle_ = bundles_.take();
  slot.page_slab_ = &pages_;
  return slot;
}

}  // namespace krait::runtime
