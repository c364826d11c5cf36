// Which rows of a batch belong together. Activations of nn are matrices of rows [M, C], all tokens of a batch one after
// the other; a segment is a stretch of rows that no state, window or attention crosses: a sequence of the batch, or one
// of the documents that share a row of it. So a reset between packed documents is nothing but a further segment.
#pragma once

#include <cstdint>
#include <vector>

namespace krait::nn {

struct Segment {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;

  bool operator==(const Segment&) const = default;
};

using Segments = std::vector<Segment>;

// B sequences of T rows.
Segments equal_segments(std::int64_t batch, std::int64_t length);

// From the number of each row's segment, `numbers` [B, T], as packed batches are often described: a segment ends where
// the number changes, and at the end of a row of the batch.
Segments segments_of_numbers(const std::int64_t* numbers, std::int64_t batch, std::int64_t length);

// Segments as autograd keeps them with a function: first rows and rows in turn.
std::vector<std::int64_t> to_list(const Segments& segments);
Segments from_list(const std::vector<std::int64_t>& list);

// Whether every one of `rows` rows is part of a segment.
bool cover(const Segments& segments, std::int64_t rows);

// Throws UserError unless the segments are within `rows` and in order without overlap. Rows of no segment are padding:
// what is made of them is 0, so that no weight's gradient takes anything from them.
void check_segments(const Segments& segments, std::int64_t rows);

}  // namespace krait::nn
