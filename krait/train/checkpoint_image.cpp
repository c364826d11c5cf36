#include "krait/train/checkpoint_image.h"

#include <algorithm>
#include <cstring>

#include "krait/core/crc32c.h"

namespace krait::train {
namespace {

// A copy of this length is long enough for the threads' bookkeeping not to count.
constexpr std::size_t kCopyBytes = std::size_t{4} << 20;

}  // namespace

Result<CheckpointImage> CheckpointImage::begin(std::int64_t step, std::span<const StateProvider* const> providers,
                                               SizeClassPool& memory) {
  CheckpointImage image;
  KRAIT_ASSIGN(image.layout_, CheckpointLayout::of(step, providers));
  KRAIT_ASSIGN(image.block_, memory.take((image.bytes() + kGrain - 1) / kGrain * kGrain));
  std::byte* first = image.block_.bytes().data();
  std::memset(first + image.bytes(), 0, image.pages().size() - image.bytes());
  for (std::size_t i = 0; i < image.layout_.sources.size(); ++i) {
    const auto& [bytes, is_blob, piecewise] = image.layout_.sources[i];
    if (piecewise.visit_pieces) {
      return fail(ErrorCode::kInvalidArgument, "[checkpoint] {} is not in memory, of which this is a snapshot",
                  image.layout_.tensors[i].name);
    }
    std::byte* to = first + image.layout_.file.offsets[i];
    if (is_blob) {
      std::ranges::copy(bytes, to);
      continue;
    }
    for (std::size_t done = 0; done < bytes.size(); done += kCopyBytes) {
      image.copies_.push_back({to + done, bytes.data() + done, std::min(kCopyBytes, bytes.size() - done)});
    }
  }
  return image;
}

void CheckpointImage::copy() {
  for (std::size_t i = progress_->next++; i < copies_.size(); i = progress_->next++) {
    std::memcpy(copies_[i].to, copies_[i].from, copies_[i].bytes);
    ++progress_->copied;
  }
}

void CheckpointImage::copy(ThreadPool& threads) {
  threads.parallel_for(static_cast<std::int64_t>(copies_.size()), 1, [&](std::int64_t, std::int64_t) { copy(); });
}

void CheckpointImage::complete(const std::function<void()>& now_and_then) {
  const std::span<const std::byte> all = block_.bytes();
  for (std::size_t i = 0; i < layout_.tensors.size(); ++i) {
    const std::span<const std::byte> tensor = all.subspan(layout_.file.offsets[i], layout_.tensors[i].bytes);
    std::uint32_t crc = 0;
    for (std::size_t done = 0; done < tensor.size(); done += kCopyBytes) {
      crc = crc32c(tensor.subspan(done, std::min(kCopyBytes, tensor.size() - done)), crc);
      now_and_then();
    }
    layout_.set_checksum(i, crc);
  }
  std::ranges::copy(std::as_bytes(std::span(layout_.complete_header())), block_.bytes().begin());
}

}  // namespace krait::train
