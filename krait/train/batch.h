// What a training step reads: B rows of T tokens, what should be said at each, and where the sequences in them begin.
//
// labels[t] is what the model should say after it has read up to ids[t]: for a language model the token that follows,
// for a masked one what the mask hides. They are in their places here already; nobody shifts anything afterwards.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace krait::train {

inline constexpr std::int32_t kNoLabel = -100;  // no loss at this place

// One sequence. `labels` is as long as `ids`. The first `prefix` tokens may be read in both directions.
struct Example {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
  std::int64_t prefix = 0;
  bool pooled = false;  // its one answer is read from the mean over its places

  std::int64_t length() const { return static_cast<std::int64_t>(ids.size()); }
};

// A stretch of the batch that is a sequence of its own: row first of the B * T, and how many. Never across two rows of
// the batch. This is what kernels call a sequence, so a packed batch is more and shorter sequences, and no state has to
// be reset within one.
struct BatchSegment {
  std::int64_t first = 0;
  std::int64_t rows = 0;
  std::int64_t prefix = 0;
  bool padding = false;  // no data: what a row has left
  bool operator==(const BatchSegment&) const = default;
};

struct Batch {
  std::int64_t batch = 0;            // B
  std::int64_t length = 0;           // T
  std::vector<std::int32_t> ids;     // [B, T]
  std::vector<std::int32_t> labels;  // [B, T]
  // In order, without gaps: every place of the batch is in exactly one, padding too.
  std::vector<BatchSegment> segments;
  bool pooled = false;  // all of its sequences are (Example)

  std::int64_t tokens() const;  // without padding
  std::int64_t labelled() const;
};

// Puts a batch together, sequence by sequence.
class BatchBuilder {
 public:
  BatchBuilder(std::int64_t batch, std::int64_t length, std::int32_t padding);

  std::int64_t space(std::int64_t row) const { return batch_.length - used_[static_cast<std::size_t>(row)]; }
  // Appends a sequence of at most space(row) tokens, at least one.
  void add(std::int64_t row, std::span<const std::int32_t> ids, std::span<const std::int32_t> labels,
           std::int64_t prefix = 0);
  void add(std::int64_t row, const Example& example) {
    add(row, example.ids, example.labels, example.prefix);
    batch_.pooled = example.pooled;
  }
  Batch finish();  // what is left of each row becomes padding; the builder is spent

 private:
  Batch batch_;
  std::vector<std::int64_t> used_;                   // of each row
  std::vector<std::vector<BatchSegment>> segments_;  // of each row
};

// One example a row, [examples, T]; T is at least the longest of them.
Batch batch_of(std::span<const Example> examples, std::int64_t length, std::int32_t padding);

}  // namespace krait::train
