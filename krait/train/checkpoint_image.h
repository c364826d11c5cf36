// The snapshot of a checkpoint: memory that holds, byte for byte, the data file to be. The header stands there already
// as long as it will be, with zeros for the checksums, which are filled in later by whoever has the time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/thread_pool.h"
#include "krait/formats/safetensors_writer.h"
#include "krait/train/checkpoint_state.h"
#include "krait/train/size_class_pool.h"

namespace krait::train {

class CheckpointImage {
 public:
  // Memory is taken in multiples of it, so that a blob or a header that grows a little finds what the last one left.
  static constexpr std::uint64_t kGrain = 64 << 10;

  // Copies the states on all threads. The errors of save() in checkpoint_writer.h.
  static Result<CheckpointImage> take(std::int64_t step, std::span<const StateProvider* const> providers,
                                      ThreadPool& threads, SizeClassPool& memory);

  // Computes the checksums and completes the header; `now_and_then` is called every few megabytes. Does not touch what
  // lies behind header_bytes().
  void complete(const std::function<void()>& now_and_then);

  std::uint64_t header_bytes() const { return layout_.header.size(); }
  std::uint64_t bytes() const { return layout_.bytes; }  // of the file
  // Up to the end of the last page.
  std::span<const std::byte> pages() const { return block_.bytes().first(SizeClassPool::class_bytes(bytes())); }
  std::span<const std::byte> header() const { return block_.bytes().first(header_bytes()); }

 private:
  std::vector<formats::TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
  formats::SafetensorsLayout layout_;
  PoolBlock block_;
};

}  // namespace krait::train
