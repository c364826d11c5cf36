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

Step::Step(ThreadPool& pool, Workspace& workspace, std::span<const Segment> segments, OperatorProfile* profile)
    : pool_(pool), workspace_(workspace), segments_(segments), profile_(profile) {
  workspace_.reset();
  std::vector<const std::byte*> states;
  for (const Segment& segment : segments) {
    const auto first_row = static_cast<std::int64_t>(tokens_.size());
    const auto count = static_cast<std::int64_t>(segment.tokens.size());
    KRAIT_CHECK(segment.state != nullptr, "segment without a state");
    KRAIT_CHECK(count > 0, "segment without tokens");
    KRAIT_CHECK(segment.wanted_from >= 0 && segment.wanted_from <= count, "wanted_from {} of {} tokens",
                segment.wanted_from, count);
    tokens_.insert(tokens_.end(), segment.tokens.begin(), segment.tokens.end());
    for (std::int64_t row = 0; row < count; ++row) positions_.push_back(segment.position + row);
    for (std::int64_t row = segment.wanted_from; row < count; ++row) wanted_rows_.push_back(first_row + row);
    sequences_.push_back({first_row, count, nullptr});
    kv_sequences_.push_back({.first_row = first_row, .rows = count, .position = segment.position});
    states.push_back(segment.state);
  }
  // Two threads would advance one state at once.
  std::ranges::sort(states);
  KRAIT_CHECK(std::ranges::adjacent_find(states) == states.end(), "two of {} segments share a state", segments.size());
  if (profile_ != nullptr) profile_->begin();
}

void Step::lap(std::string_view name, const kernels::WeightMatrix& weight, std::int64_t rows) const {
  lap(name, {&weight}, rows);
}

void Step::lap(std::string_view name, std::initializer_list<const kernels::WeightMatrix*> weights,
               std::int64_t rows) const {
  if (profile_ == nullptr) return;
  const auto count = static_cast<std::uint64_t>(rows);
  std::uint64_t bytes = 0, operations = 0;
  bool integers = false;
  for (const kernels::WeightMatrix* weight : weights) {
    bytes += kernels::weight_memory(*weight) +
             count * static_cast<std::uint64_t>(weight->rows + weight->columns) * sizeof(float);
    operations += 2 * count * static_cast<std::uint64_t>(weight->rows * weight->columns);
    integers |= weight->layout == kernels::WeightLayout::kPanels && !kernels::is_float(weight->panels);
  }
  profile_->lap(name, bytes, operations, integers);
}

void Step::lap_rows(std::string_view name, std::int64_t columns) const {
  lap(name, static_cast<std::uint64_t>(2 * row_count() * columns) * sizeof(float));
}

void Step::lap_scan(std::string_view name, std::uint64_t state_bytes, std::int64_t columns,
                    std::int64_t operations) const {
  lap(name, 2 * segments_.size() * state_bytes + static_cast<std::uint64_t>(row_count() * columns) * sizeof(float),
      static_cast<std::uint64_t>(row_count() * operations));
}

void Step::lap_attention(std::string_view name, const kernels::Attention& attention) const {
  if (profile_ == nullptr) return;
  const kernels::KvShape& kv = attention.kv;
  const std::int64_t token_bytes = kv.page_bytes() / kernels::kKvPageTokens;
  const std::int64_t token_operations = 2 * attention.query_heads * (kv.key_width + kv.value_width);
  std::uint64_t bytes = 0, operations = 0;
  for (const Segment& segment : segments_) {
    const auto count = static_cast<std::int64_t>(segment.tokens.size());
    const auto in_view = [&](std::int64_t position) {
      return attention.window > 0 ? std::min(position, attention.window) : position;
    };
    bytes += static_cast<std::uint64_t>((in_view(segment.position + count) + count) * token_bytes);
    // The mean of the first and the last row's.
    const std::int64_t tokens = in_view(segment.position + 1) + in_view(segment.position + count);
    operations += static_cast<std::uint64_t>(tokens * count / 2 * token_operations);
  }
  profile_->lap(name, bytes, operations);
}

std::span<const kernels::SequenceRows> Step::sequences(std::uint64_t offset) {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    sequences_[i].state = segments_[i].state + offset;
  }
  return sequences_;
}

std::span<const kernels::KvSequence> Step::paged_sequences(std::uint64_t offset) {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    KRAIT_CHECK(segments_[i].pages != nullptr, "segment without pages");
    kv_sequences_[i].pages = segments_[i].pages;
    kv_sequences_[i].offset = offset;
    kv_sequences_[i].ring = nullptr;
  }
  return kv_sequences_;
}

std::span<const kernels::KvSequence> Step::ring_sequences(std::uint64_t offset, std::int64_t pages) {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    kv_sequences_[i].ring = segments_[i].state + offset;
    kv_sequences_[i].ring_pages = pages;
  }
  return kv_sequences_;
}

std::span<const kernels::KvSequence> Step::wanted_sequences(std::uint64_t offset) {
  wanted_sequences_.clear();
  std::int64_t first_row = 0;
  for (const Segment& segment : segments_) {
    KRAIT_CHECK(segment.pages != nullptr, "segment without pages");
    const auto rows = static_cast<std::int64_t>(segment.tokens.size()) - segment.wanted_from;
    wanted_sequences_.push_back({.first_row = first_row,
                                 .rows = rows,
                                 .position = segment.position + segment.wanted_from,
                                 .pages = segment.pages,
                                 .offset = offset});
    first_row += rows;
  }
  return wanted_sequences_;
}

kernels::RowsIn Step::rotary_table(const kernels::Rotary& rotary) {
  auto found = std::ranges::find(rotary_tables_, rotary, &RotaryTable::rotary);
  if (found == rotary_tables_.end()) {
    const auto values = static_cast<std::size_t>(row_count() * rotary.width);
    found = rotary_tables_.insert(found, {rotary, AlignedBuffer(values * sizeof(float))});
    kernels::rotary_table(pool_, rotary, positions_, {found->values.as<float>().data(), row_count(), rotary.width});
  }
  return {found->values.as<float>().data(), row_count(), rotary.width};
}

kernels::RowsOut wanted_rows(Step& step, kernels::RowsIn from) {
  const auto wanted = step.wanted_rows();
  const kernels::RowsOut rows = step.workspace().rows(static_cast<std::int64_t>(wanted.size()), from.columns);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    std::copy_n(from.row(wanted[i]), from.columns, rows.row(static_cast<std::int64_t>(i)));
  }
  return rows;
}

}  // namespace krait::models
