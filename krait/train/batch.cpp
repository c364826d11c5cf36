#include "krait/train/batch.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::train {

std::int64_t Batch::tokens() const {
  std::int64_t count = 0;
  for (const BatchSegment& segment : segments) count += segment.padding ? 0 : segment.rows;
  return count;
}

std::int64_t Batch::labelled() const {
  return std::ranges::count_if(labels, [](std::int32_t label) { return label != kNoLabel; });
}

BatchBuilder::BatchBuilder(std::int64_t batch, std::int64_t length, std::int32_t padding) {
  KRAIT_CHECK(batch >= 0 && length >= 1, "a batch of {} rows of {} tokens", batch, length);
  const auto places = static_cast<std::size_t>(batch * length);
  batch_.batch = batch;
  batch_.length = length;
  batch_.ids.assign(places, padding);
  batch_.labels.assign(places, kNoLabel);
  used_.assign(static_cast<std::size_t>(batch), 0);
  segments_.resize(static_cast<std::size_t>(batch));
}

void BatchBuilder::add(std::int64_t row, std::span<const std::int32_t> ids, std::span<const std::int32_t> labels,
                       std::int64_t prefix) {
  const auto rows = static_cast<std::int64_t>(ids.size());
  KRAIT_CHECK_EQ(ids.size(), labels.size());
  KRAIT_CHECK(row >= 0 && row < batch_.batch, "row {} of {}", row, batch_.batch);
  KRAIT_CHECK(rows >= 1 && rows <= space(row), "{} tokens into a row with room for {}", rows, space(row));
  KRAIT_CHECK(prefix >= 0 && prefix <= rows, "a prefix of {} in a sequence of {}", prefix, rows);
  std::int64_t& used = used_[static_cast<std::size_t>(row)];
  const std::int64_t first = row * batch_.length + used;
  std::ranges::copy(ids, batch_.ids.begin() + first);
  std::ranges::copy(labels, batch_.labels.begin() + first);
  segments_[static_cast<std::size_t>(row)].push_back({first, rows, prefix, false});
  used += rows;
}

Batch BatchBuilder::finish() {
  for (std::int64_t row = 0; row < batch_.batch; ++row) {
    const auto& own = segments_[static_cast<std::size_t>(row)];
    batch_.segments.insert(batch_.segments.end(), own.begin(), own.end());
    if (const std::int64_t left = space(row); left > 0) {
      batch_.segments.push_back({(row + 1) * batch_.length - left, left, 0, true});
    }
  }
  return std::move(batch_);
}

Batch batch_of(std::span<const Example> examples, std::int64_t length, std::int32_t padding) {
  BatchBuilder builder(static_cast<std::int64_t>(examples.size()), length, padding);
  for (std::size_t row = 0; row < examples.size(); ++row) builder.add(static_cast<std::int64_t>(row), examples[row]);
  return builder.finish();
}

}  // namespace krait::train
