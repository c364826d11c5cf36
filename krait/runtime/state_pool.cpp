#include "krait/runtime/state_pool.h"

#include <cstring>

#include "krait/core/check.h"

namespace krait::runtime {

StateSlot::~StateSlot() {
  pages_.clear();
  if (pool_ == nullptr) return;
  const std::lock_guard lock(pool_->mutex_);
  pool_->free_.push_back(std::move(buffer_));
}

void StateSlot::make_room(std::int64_t position, std::int64_t count, std::int64_t tokens) {
  if (pool_->page_bytes_ == 0 || count == 0) return;
  const auto first = static_cast<std::size_t>(position / tokens);
  const auto last = static_cast<std::size_t>((position + count - 1) / tokens);
  KRAIT_CHECK(first <= pages_.size(), "a state of {} pages is asked for page {}", pages_.size(), first);
  for (std::size_t i = first; i <= last; ++i) {
    if (i == pages_.size()) {
      pages_.push_back(pool_->take_page(nullptr));
      page_data_.push_back(pages_.back()->data());
    } else if (pages_[i].use_count() > 1) {
      pages_[i] = pool_->take_page(pages_[i].get());
      page_data_[i] = pages_[i]->data();
    }
  }
}

AlignedBuffer StatePool::take(std::vector<AlignedBuffer>& from, std::uint64_t bytes, bool& fresh) {
  {
    const std::lock_guard lock(mutex_);
    if (!from.empty()) {
      AlignedBuffer buffer = std::move(from.back());
      from.pop_back();
      fresh = false;
      return buffer;
    }
  }
  fresh = true;
  return AlignedBuffer(bytes);
}

StateSlot::Page StatePool::take_page(const AlignedBuffer* original) {
  bool fresh = false;
  AlignedBuffer buffer = take(free_pages_, page_bytes_, fresh);
  if (original != nullptr) {
    std::memcpy(buffer.data(), original->data(), page_bytes_);
  } else if (!fresh) {
    std::memset(buffer.data(), 0, page_bytes_);
  }
  const auto give_back = [this](AlignedBuffer* page) {
    const std::unique_ptr<AlignedBuffer> owned(page);
    const std::lock_guard lock(mutex_);
    free_pages_.push_back(std::move(*page));
    --pages_in_use_;
  };
  StateSlot::Page page(new AlignedBuffer(std::move(buffer)), give_back);
  const std::lock_guard lock(mutex_);
  ++pages_in_use_;
  return page;
}

StateSlot StatePool::acquire() {
  bool fresh = false;
  StateSlot slot(this, take(free_, bytes_, fresh));
  if (!fresh) std::memset(slot.data(), 0, bytes_);
  return slot;
}

StateSlot StatePool::fork(const StateSlot& original) {
  KRAIT_CHECK(original.pool_ == this, "a state of another pool cannot be forked here");
  bool fresh = false;
  StateSlot slot(this, take(free_, bytes_, fresh));
  std::memcpy(slot.data(), original.data(), bytes_);
  slot.pages_ = original.pages_;
  slot.page_data_ = original.page_data_;
  return slot;
}

std::uint64_t StatePool::pages_in_use() const {
  const std::lock_guard lock(mutex_);
  return pages_in_use_;
}

}  // namespace krait::runtime
