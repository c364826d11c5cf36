#include "krait/runtime/state_pool.h"

#include <cstring>

#include "krait/core/check.h"

namespace krait::runtime {

StateSlot::~StateSlot() {
  if (pool_ != nullptr) pool_->give_back(std::move(buffer_));
}

AlignedBuffer StatePool::take(bool& fresh) {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      AlignedBuffer buffer = std::move(free_.back());
      free_.pop_back();
      fresh = false;
      return buffer;
    }
  }
  fresh = true;
  return AlignedBuffer(bytes_);
}

void StatePool::give_back(AlignedBuffer buffer) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(buffer));
}

StateSlot StatePool::acquire() {
  bool fresh = false;
  StateSlot slot(this, take(fresh));
  if (!fresh) std::memset(slot.data(), 0, bytes_);
  return slot;
}

StateSlot StatePool::fork(const StateSlot& original) {
  KRAIT_CHECK(original.pool_ == this, "a state of another pool cannot be forked here");
  bool fresh = false;
  StateSlot slot(this, take(fresh));
  std::memcpy(slot.data(), original.data(), bytes_);
  return slot;
}

}  // namespace krait::runtime
