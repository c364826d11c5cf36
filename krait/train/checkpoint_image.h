// The snapshot of a checkpoint: memory that holds, byte for byte, the data file to be. The header stands there already
// as long as it will be, with zeros for the checksums, which are filled in later by whoever has the time. So are the
// tensors' bytes: several threads may copy them, each takes the next piece that nobody has.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/thread_pool.h"
#include "krait/train/checkpoint_layout.h"
#include "krait/train/size_class_pool.h"

namespace krait::train {

class CheckpointImage {
 public:
  // Memory is taken in multiples of it, so that a blob or a header that grows a little finds what the last one left.
  static constexpr std::uint64_t kGrain = 64 << 10;

  // Takes the memory and copies what is not the tensors' bytes, which must stay as they are until they are copied. The
  // errors of save() in checkpoint_writer.h.
  static Result<CheckpointImage> begin(std::int64_t step, std::span<const StateProvider* const> providers,
                                       SizeClassPool& memory);

  // Copies pieces until there are no more. Other threads may still be at theirs when it returns.
  void copy();
  void copy(ThreadPool& threads);
  bool is_copied() const { return progress_->copied == copies_.size(); }

  // Computes the checksums and completes the header; `now_and_then` is called every few megabytes. Does not touch what
  // lies behind header_bytes().
  void complete(const std::function<void()>& now_and_then);

  std::uint64_t header_bytes() const { return layout_.file.header.size(); }
  std::uint64_t bytes() const { return layout_.file.bytes; }  // of the file
  // Up to the end of the last page.
  std::span<const std::byte> pages() const { return block_.bytes().first(SizeClassPool::class_bytes(bytes())); }
  std::span<const std::byte> header() const { return block_.bytes().first(header_bytes()); }

 private:
  struct Copy {
    std::byte* to = nullptr;
    const std::byte* from = nullptr;
    std::size_t bytes = 0;
  };
  struct Progress {
    std::atomic<std::size_t> next = 0, copied = 0;
  };

  CheckpointLayout layout_;
  PoolBlock block_;
  std::vector<Copy> copies_;
  std::unique_ptr<Progress> progress_ = std::make_unique<Progress>();
};

}  // namespace krait::train
