#include "krait/models/step.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::models {
namespace {

// Small steps share one block; a block larger than this is made to measure.
constexpr std::size_t kMinimumBlock = std::size_t{4} << 20;

}  // namespace

float* Workspace::take(std::int64_t count) {
  constexpr std::size_t kAlignment = AlignedBuffer::kAlignment;
  const std::size_t bytes =
      (static_cast<std::size_t>(count) * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) blocks_.emplace_back(std::max(bytes, kMinimumBlock));
  float* taken = reinterpret_cast<float*>(blocks_[block_].data() + used_);
  used_ += bytes;
  return taken;
}

void Workspace::reset() {
  if (blocks_.size() > 1) {
    // The last step needed several blocks: the next one of its size gets a single one.
    std::size_t total = 0;
    for (const AlignedBuffer& block : blocks_) total += block.size();
    blocks_.clear();
    blocks_.emplace_back(total);
  }
  block_ = 0;
  used_ = 0;
}

Step::Step(ThreadPool& pool, Workspace& workspace, std::span<const Segment> segments)
    : pool_(pool), workspace_(workspace), segments_(segments) {
  workspace_.reset();
  std::vector<const std::byte*> states;
  for (const Segment& segment : segments) {
    const auto first_row = static_cast<std::int64_t>(tokens_.size());
    const auto count = static_cast<std::int64_t>(segment.tokens.size());
    KRAIT_CHECK(segment.state != nullptr, "segment without a state");
    KRAIT_CHECK(count > 0, "segment without tokens");
    KRAIT_CHECK(segment.logits_from >= 0 && segment.logits_from <= count, "logits_from {} of {} tokens",
                segment.logits_from, count);
    tokens_.insert(tokens_.end(), segment.tokens.begin(), segment.tokens.end());
    for (std::int64_t row = segment.logits_from; row < count; ++row) logit_rows_.push_back(first_row + row);
    sequences_.push_back({first_row, count, nullptr});
    states.push_back(segment.state);
  }
  // Two threads would advance one state at once.
  std::ranges::sort(states);
  KRAIT_CHECK(std::ranges::adjacent_find(states) == states.end(), "two of {} segments share a state", segments.size());
}

std::span<const kernels::SequenceRows> Step::sequences(std::uint64_t offset) {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    sequences_[i].state = segments_[i].state + offset;
  }
  return sequences_;
}

}  // namespace krait::models
