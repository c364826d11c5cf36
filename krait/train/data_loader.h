// Batches for training a language model on token shards: documents packed into rows (data_packing.h), rows in an order
// of their own in each epoch (data_permutation.h), sources in proportion to their weights (data_mixture.h). Which row
// comes when depends on the cursor alone, so a run can stop and go on anywhere.
//
// Labels are the tokens that follow, within a document: where a document was cut at the end of a row, the last label is
// the first token of the next row's piece; the last token of a document has none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/batch.h"
#include "krait/train/data_corpus.h"
#include "krait/train/data_cursor.h"
#include "krait/train/data_mixture.h"
#include "krait/train/data_packing.h"
#include "krait/train/data_permutation.h"

namespace krait::train {

struct DataSource {
  std::string name;  // for messages
  TokenCorpus corpus;
  double weight = 1;  // share of the rows, relative to the other sources'
};

// kInvalidArgument for no sources, weights not above 0, sources without tokens or of different tokenizers, and padding
// outside their vocabulary.
Result<void> check_sources(const std::vector<DataSource>& sources, std::int32_t padding);
std::vector<double> weights_of(const std::vector<DataSource>& sources);
// What of them decides which rows come, for the identity that a DataCursor has.
void feed_sources(Hasher& hasher, const std::vector<DataSource>& sources);

struct DataLoaderOptions {
  std::int64_t batch = 8;      // B, of this process
  std::int64_t length = 1024;  // T
  std::uint64_t seed = 0;
  bool shuffle = true;
  // Without: every source once, one after the other, whatever their weights; for evaluation.
  bool repeat = true;
  std::int32_t padding = 0;  // the token of places without data
  // Of processes that train together, each reads its part of every step.
  std::int64_t rank = 0;
  std::int64_t ranks = 1;
};

class DataLoader {
 public:
  // kInvalidArgument for sources that do not fit together or options outside their range.
  static Result<DataLoader> make(std::vector<DataSource> sources, const DataLoaderOptions& options);

  // The next B rows; without `repeat` fewer at the end, and none after it. An error leaves the cursor where it was.
  Result<Batch> next();

  // Where the next batch begins; equal in all processes that train together.
  const DataCursor& cursor() const { return cursor_; }
  // kInvalidArgument for a cursor of other data or another order.
  Result<void> seek(const DataCursor& cursor);

  std::size_t sources() const { return sources_.size(); }
  const DataSource& source(std::size_t index) const { return sources_[index]; }
  const Packing& packing(std::size_t source) const { return packings_[source]; }
  std::int64_t rows() const;  // of all sources, once each
  const DataLoaderOptions& options() const { return options_; }

 private:
  struct RowPlace {
    std::size_t source;
    std::int64_t row;
  };
  DataLoader(std::vector<DataSource> sources, const DataLoaderOptions& options);
  std::size_t source_of_next(const DataCursor& cursor) const;  // sources() when all have been read
  RowPlace step(DataCursor& cursor);
  Result<void> add_row(const RowPlace& place, std::int64_t row, BatchBuilder& builder) const;
  void set_order(std::size_t source, std::uint64_t epoch);

  std::vector<DataSource> sources_;
  DataLoaderOptions options_;
  Mixture mixture_;
  std::vector<Packing> packings_;
  DataCursor cursor_;
  struct Order {
    std::uint64_t epoch;
    Permutation permutation;
  };
  std::vector<Order> orders_;  // of each source, for the epoch asked for last
};

}  // namespace krait::train
