// The rows of a batch's prefixes read from their ends to their beginnings, which makes a causal mixer see a prefix in
// both directions (Birdie; Blouir et al. 2024).
#pragma once

#include "krait/nn/mixer.h"

namespace krait::nn {

bool has_prefixes(const Batch& batch);

struct PrefixRows {
  Tensor rows;        // [P], int64: rows of the batch, those of each prefix backwards
  Segments segments;  // of these P rows: one for each prefix
};

// Throws UserError for a prefix longer than its segment.
PrefixRows reversed_prefixes(const Batch& batch);

}  // namespace krait::nn
