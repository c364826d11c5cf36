#include "krait/models/likeliest.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "krait/core/check.h"
#include "krait/kernels/distribution.h"

namespace krait::models {
namespace {

// Rows [first, first + count) of a matrix in panels; `first` is where a panel begins.
kernels::WeightMatrix rows_of(const kernels::WeightMatrix& matrix, std::int64_t first, std::int64_t count) {
  KRAIT_CHECK(first % kernels::kPanelOutputs == 0, "row {} is in the middle of a panel", first);
  kernels::WeightMatrix part = matrix;
  part.rows = count;
  const std::int64_t panel_bytes = kernels::panel_shape(matrix.panels, matrix.rows, matrix.columns).panel_bytes;
  part.data = matrix.data + first / kernels::kPanelOutputs * panel_bytes;
  return part;
}

// Merges the best of logits [first, …) into `best`, which is sorted and at most `count` long.
void keep_best(std::span<const float> logits, std::int64_t first, std::int64_t count, std::vector<LikelyToken>& best,
               std::vector<std::int32_t>& indices) {
  const auto value_of = [](float logit) { return std::isnan(logit) ? -std::numeric_limits<float>::infinity() : logit; };
  if (count == 1) {
    const std::int64_t index = kernels::argmax(logits);
    indices.assign(1, static_cast<std::int32_t>(index));
  } else {
    indices.resize(std::min(logits.size(), static_cast<std::size_t>(count)));
    kernels::top_k(logits, indices);
  }
  std::vector<LikelyToken> merged;
  merged.reserve(static_cast<std::size_t>(count));
  auto old = best.begin();
  auto fresh = indices.begin();
  while (std::ssize(merged) < count && (old != best.end() || fresh != indices.end())) {
    // Those before have smaller ids and win ties.
    const bool takes_old = fresh == indices.end() ||
                           (old != best.end() && old->logit >= value_of(logits[static_cast<std::size_t>(*fresh)]));
    if (takes_old) {
      merged.push_back(*old++);
    } else {
      merged.push_back({static_cast<std::int32_t>(first + *fresh), value_of(logits[static_cast<std::size_t>(*fresh)])});
      ++fresh;
    }
  }
  best = std::move(merged);
}

}  // namespace

bool has_head_in_stretches(const Model& model) { return model.head().weight.layout == kernels::WeightLayout::kPanels; }

std::int64_t head_stretch(std::int64_t rows, std::int64_t vocabulary) {
  constexpr std::int64_t kFloats = std::int64_t{1} << 18;
  constexpr std::int64_t kLeast = 1024;  // below, threads would have too little to share
  const std::int64_t wanted = std::max(kFloats / std::max<std::int64_t>(rows, 1), kLeast);
  return std::min(vocabulary, wanted / kernels::kPanelOutputs * kernels::kPanelOutputs);
}

std::vector<std::vector<LikelyToken>> likeliest_of(const Model& model, Step& step, kernels::RowsIn hidden,
                                                   std::span<const std::int64_t> counts, std::int64_t drawable,
                                                   float* logits) {
  const kernels::WeightMatrix& head = model.head().weight;
  KRAIT_CHECK_EQ(std::ssize(counts), hidden.rows);
  KRAIT_CHECK(has_head_in_stretches(model), "a head whose weights are used in place");
  std::vector<std::vector<LikelyToken>> best(counts.size());
  const std::int64_t stretch = head_stretch(hidden.rows, head.rows);
  for (std::int64_t first = 0; first < drawable; first += stretch) {
    const std::int64_t count = std::min(stretch, head.rows - first);
    const kernels::RowsOut part(logits, hidden.rows, count);
    const float* bias = model.head().bias == nullptr ? nullptr : model.head().bias + first;
    kernels::linear(step.pool(), hidden, rows_of(head, first, count), bias, part);
    const auto usable = static_cast<std::size_t>(std::min(count, drawable - first));
    step.pool().parallel_for(hidden.rows, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::int32_t> indices;
      for (std::int64_t row = begin; row < end; ++row) {
        const auto at = static_cast<std::size_t>(row);
        keep_best({part.row(row), usable}, first, counts[at], best[at], indices);
      }
    });
  }
  step.lap("head", head, hidden.rows);
  return best;
}

}  // namespace krait::models
