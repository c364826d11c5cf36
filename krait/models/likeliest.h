// The likeliest tokens behind hidden states, without a row of logits of the whole vocabulary: the head is computed in
// stretches of the vocabulary for all rows, and of each stretch what is among the best so far is kept (dLLM-Serve,
// arXiv 2512.17077, section on logits in chunks). With V = 262,144 and 32 rows that is 1 MiB instead of 32.
//
// The logits are those of Model::logits(), to the bit, and ties go to the smaller id, so the tokens are those that
// kernels::top_k finds in the whole row. For heads in panels only: weights in place give other bits in other shapes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "krait/models/model.h"

namespace krait::models {

struct LikelyToken {
  std::int32_t id = 0;
  float logit = 0.0F;  // never NaN: that counts as minus infinity
  bool operator==(const LikelyToken&) const = default;
};

// Whether the head of the model can be computed in stretches.
bool has_head_in_stretches(const Model& model);

// Rows of a head that are computed at once, for a buffer of about 1 MiB.
std::int64_t head_stretch(std::int64_t rows, std::int64_t vocabulary);

// Of each row of hidden [R, D] the counts[r] likeliest of the tokens below `drawable`, the likeliest first. `logits`
// has head_stretch(R, V) * R floats of scratch. A count is at most `drawable`.
std::vector<std::vector<LikelyToken>> likeliest_of(const Model& model, Step& step, kernels::RowsIn hidden,
                                                   std::span<const std::int64_t> counts, std::int64_t drawable,
                                                   float* logits);

}  // namespace krait::models
