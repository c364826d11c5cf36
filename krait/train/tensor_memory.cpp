#include "krait/train/tensor_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <memory>

namespace krait::train {
namespace {

// From here on a mapping of its own is worth its while.
constexpr std::size_t kLeast = std::size_t{256} << 10;

// A quarter more than the most that tensors took at once.
std::uint64_t most_reserved(std::uint64_t peak) { return peak + peak / 4; }

void drop_block(void* context) { delete static_cast<PoolBlock*>(context); }

class KeptMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) const override {
    if (bytes >= kLeast && keeps_) {
      // Where the pool has nothing, libtorch's own allocator says so in its words.
      if (Result<PoolBlock> taken = pool_.take(bytes)) {
        auto block = std::make_unique<PoolBlock>(*std::move(taken));
        void* const data = block->bytes().data();
        // Sizes that will not come again give way.
        pool_.trim(most_reserved(pool_.use().peak_asked));
        return {data, block.release(), &drop_block, c10::Device(c10::DeviceType::CPU)};
      }
    }
    return small_->allocate(bytes);
  }
  SizeClassPool& pool() const { return pool_; }
  void set_keeps(bool keeps) { keeps_ = keeps; }

 private:
  c10::Allocator* small_ = c10::GetDefaultCPUAllocator();
  std::atomic<bool> keeps_ = true;
  mutable SizeClassPool pool_;
};

// Never destroyed: tensors of static storage may be dropped after everything else.
KeptMemory*& installed() {
  static KeptMemory* memory = nullptr;
  return memory;
}

}  // namespace

void keep_tensor_memory() {
  if (installed() != nullptr) return;
  installed() = new KeptMemory;
  c10::SetCPUAllocator(installed());
}

SizeClassPool::Use tensor_memory() { return installed() == nullptr ? SizeClassPool::Use{} : installed()->pool().use(); }

void set_tensor_memory_kept(bool kept) {
  if (installed() == nullptr) return;
  installed()->set_keeps(kept);
  if (!kept) release_tensor_memory();
}

void release_tensor_memory() {
  if (installed() != nullptr) installed()->pool().trim();
}

}  // namespace krait::train
