#include "krait/nn/prefix_rows.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace krait::nn {

bool has_prefixes(const Batch& batch) {
  return std::ranges::any_of(batch.prefixes, [](std::int64_t prefix) { return prefix != 0; });
}

PrefixRows reversed_prefixes(const Batch& batch) {
  if (batch.prefixes.size() != batch.segments.size()) {
    throw UserError(fmt::format("{} prefixes for {} segments", batch.prefixes.size(), batch.segments.size()),
                    "each segment has a prefix, of length 0 perhaps");
  }
  std::vector<std::int64_t> rows;
  PrefixRows result;
  for (std::size_t i = 0; i < batch.segments.size(); ++i) {
    const Segment& segment = batch.segments[i];
    const std::int64_t prefix = batch.prefixes[i];
    if (prefix < 0 || prefix > segment.rows) {
      throw UserError(fmt::format("a prefix of {} rows in a segment of {}", prefix, segment.rows),
                      "a prefix is part of its segment");
    }
    if (prefix == 0) continue;
    result.segments.push_back({static_cast<std::int64_t>(rows.size()), prefix});
    for (std::int64_t row = prefix - 1; row >= 0; --row) rows.push_back(segment.first_row + row);
  }
  result.rows = at::tensor(rows, at::kLong);
  return result;
}

}  // namespace krait::nn
