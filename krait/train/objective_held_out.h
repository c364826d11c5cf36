// Held-out pieces of documents as every objective asks for them: the same pieces for each, drawn once, so that losses
// of two moments of a run, and of two runs, can be compared.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "krait/train/objective_loader.h"

namespace krait::train {

struct HeldOutObjective {
  std::string name;
  std::vector<Batch> batches;
  std::int64_t examples = 0;  // of the pieces, those that were long enough for the objective
};

struct HeldOutOptions {
  std::int64_t batch = 8;
  std::int64_t length = 1024;
  std::int64_t piece = 512;
  std::int64_t pieces = 64;  // of all sources together; no more than there are
  std::int32_t padding = 0;
};

// kInvalidArgument for sources that do not fit together, and for an objective that no piece is long enough for.
Result<std::vector<HeldOutObjective>> hold_out(std::vector<DataSource> sources,
                                               std::span<const WeightedObjective> objectives,
                                               const HeldOutOptions& options);

}  // namespace krait::train
