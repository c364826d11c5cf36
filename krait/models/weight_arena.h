// Memory for the weights of a model: handed out in order from a few large stretches of huge pages, given back all at
// once. What is not handed out is never touched.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "krait/core/aligned_buffer.h"

namespace krait::models {

class WeightArena {
 public:
  // Zeros, aligned to 64 bytes, valid while the arena lives (moving it does not matter).
  std::byte* take(std::size_t bytes) {
    bytes = (bytes + AlignedBuffer::kAlignment - 1) / AlignedBuffer::kAlignment * AlignedBuffer::kAlignment;
    if (stretches_.empty() || used_ + bytes > stretches_.back().size()) {
      stretches_.emplace_back(std::max(bytes, kStretch));
      used_ = 0;
    }
    std::byte* taken = stretches_.back().data() + used_;
    used_ += bytes;
    return taken;
  }

 private:
  static constexpr std::size_t kStretch = std::size_t{256} << 20;
  std::vector<AlignedBuffer> stretches_;
  std::size_t used_ = 0;  // of the last stretch
};

}  // namespace krait::models
