// Batches of objectives (objective.h): pieces of documents, each turned into an example by an objective that is drawn
// by the weights, several to a row as they fit. Unlike DataLoader's, these rows are packed as they come, since the
// lengths of examples depend on chance; all chance is told by seed and place, so a run can stop and go on anywhere.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/batch.h"
#include "krait/train/data_corpus.h"
#include "krait/train/data_cursor.h"
#include "krait/train/data_packing.h"
#include "krait/train/objective.h"

namespace krait::train {

struct WeightedObjective {
  std::string name;
  std::unique_ptr<Objective> objective;
  double weight = 1;
};

struct ObjectiveLoaderOptions {
  std::int64_t batch = 8;      // B
  std::int64_t length = 1024;  // T
  std::int64_t piece = 512;    // the most tokens of a document that are read at once
  std::uint64_t seed = 0;
  std::int32_t padding = 0;
};

// How an objective has been served, since the start.
struct ObjectiveCount {
  std::int64_t examples = 0, tokens = 0;
};

class ObjectiveLoader {
 public:
  // kInvalidArgument for options outside their range, weights below 0 or all 0, a corpus without tokens.
  static Result<ObjectiveLoader> make(TokenCorpus corpus, std::vector<WeightedObjective> objectives,
                                      const ObjectiveLoaderOptions& options);

  Result<Batch> next();

  // For a curriculum that changes the mixture on the way. Weights are no part of the cursor: whoever changes them keeps
  // them. kInvalidArgument for weights below 0, or all 0.
  Result<void> set_weights(std::span<const double> weights);
  std::span<const WeightedObjective> objectives() const { return objectives_; }
  std::span<const ObjectiveCount> counts() const { return counts_; }

  const DataCursor& cursor() const { return cursor_; }
  Result<void> seek(const DataCursor& cursor);
  std::int64_t pieces() const { return static_cast<std::int64_t>(pieces_.size()); }  // of an epoch

 private:
  ObjectiveLoader(TokenCorpus corpus, std::vector<WeightedObjective> objectives, const ObjectiveLoaderOptions& options);
  std::size_t draw(Random& random) const;

  TokenCorpus corpus_;
  std::vector<WeightedObjective> objectives_;
  ObjectiveLoaderOptions options_;
  std::vector<PackedPiece> pieces_;
  std::vector<ObjectiveCount> counts_;
  DataCursor cursor_;
};

}  // namespace krait::train
