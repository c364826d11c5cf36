// Batches of objectives (objective.h): pieces of documents, each turned into an example by an objective that is drawn
// by the weights, several to a row as they fit. Unlike DataLoader's, these rows are packed as they come, since the
// lengths of examples depend on chance; all chance is told by seed and place, so a run can stop and go on anywhere.
//
// Of several sources each gives its share of the pieces (data_mixture.h), in an order of its own in each epoch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/batch.h"
#include "krait/train/data_cursor.h"
#include "krait/train/data_loader.h"
#include "krait/train/data_mixture.h"
#include "krait/train/data_packing.h"
#include "krait/train/objective.h"

namespace krait::train {

struct WeightedObjective {
  std::string name;  // another one for each
  std::unique_ptr<Objective> objective;
  double weight = 1;            // to begin with
  ObjectiveValues values = {};  // it was made from: a run with others is another run
};

struct ObjectiveLoaderOptions {
  std::int64_t batch = 8;      // B, of this process
  std::int64_t length = 1024;  // T
  std::int64_t piece = 512;    // the most tokens of a document that are read at once
  std::uint64_t seed = 0;
  std::int32_t padding = 0;
  // Of processes that train together, each reads its part of every step.
  std::int64_t rank = 0;
  std::int64_t ranks = 1;
};

// How an objective has been served, by all processes, since the start.
struct ObjectiveCount {
  std::int64_t examples = 0, tokens = 0;
  bool operator==(const ObjectiveCount&) const = default;
};

class ObjectiveLoader {
 public:
  // kInvalidArgument for options outside their range, weights below 0 or all 0, sources that do not fit together.
  static Result<ObjectiveLoader> make(std::vector<DataSource> sources, std::vector<WeightedObjective> objectives,
                                      const ObjectiveLoaderOptions& options);

  Result<Batch> next();

  // For a curriculum that changes the mixture on the way. kInvalidArgument for weights below 0, or all 0.
  Result<void> set_weights(std::span<const double> weights);
  const std::vector<double>& weights() const { return weights_; }
  std::span<const WeightedObjective> objectives() const { return objectives_; }
  std::span<const ObjectiveCount> counts() const { return counts_; }

  // Weights and counts are no part of the cursor; place() has all three.
  const DataCursor& cursor() const { return cursor_; }
  Result<void> seek(const DataCursor& cursor);
  std::vector<std::uint64_t> place() const;
  Result<void> seek(std::span<const std::uint64_t> place);

  std::int64_t pieces(std::size_t source = 0) const;  // of an epoch
  const TokenCorpus& corpus(std::size_t source = 0) const { return sources_[source].corpus; }

 private:
  struct Drawn {
    std::size_t source;
    PackedPiece piece;
    Random random;  // of this piece in this epoch
  };
  ObjectiveLoader(std::vector<DataSource> sources, std::vector<WeightedObjective> objectives,
                  const ObjectiveLoaderOptions& options);
  Drawn draw_piece(DataCursor& cursor);
  std::size_t draw_objective(Random& random) const;
  std::int64_t all_pieces() const;

  std::vector<DataSource> sources_;
  std::vector<WeightedObjective> objectives_;
  ObjectiveLoaderOptions options_;
  Mixture mixture_;
  std::vector<std::vector<PackedPiece>> pieces_;  // of each source
  std::vector<double> weights_;
  std::vector<ObjectiveCount> counts_;
  DataCursor cursor_;
};

// A document in pieces of at most `longest` tokens.
std::vector<PackedPiece> document_pieces(const TokenCorpus& corpus, std::int64_t longest);
// Of what a row of `length` has left at its end no example is made: many objectives need more, and short ones teach
// little.
std::int64_t least_objective_room(std::int64_t length);

}  // namespace krait::train
