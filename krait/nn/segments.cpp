#include "krait/nn/segments.h"

#include "krait/core/error.h"

namespace krait::nn {

Segments equal_segments(std::int64_t batch, std::int64_t length) {
  Segments segments;
  for (std::int64_t b = 0; b < batch; ++b) segments.push_back({b * length, length});
  return segments;
}

Segments segments_of_numbers(const std::int64_t* numbers, std::int64_t batch, std::int64_t length) {
  Segments segments;
  for (std::int64_t row = 0; row < batch * length; ++row) {
    const bool begins = row % length == 0 || numbers[row] != numbers[row - 1];
    if (begins) segments.push_back({row, 0});
    ++segments.back().rows;
  }
  return segments;
}

std::vector<std::int64_t> to_list(const Segments& segments) {
  std::vector<std::int64_t> list;
  list.reserve(2 * segments.size());
  for (const Segment& segment : segments) list.insert(list.end(), {segment.first_row, segment.rows});
  return list;
}

Segments from_list(const std::vector<std::int64_t>& list) {
  Segments segments(list.size() / 2);
  for (std::size_t i = 0; i < segments.size(); ++i) segments[i] = {list[2 * i], list[2 * i + 1]};
  return segments;
}

bool cover(const Segments& segments, std::int64_t rows) {
  std::int64_t covered = 0;
  for (const Segment& segment : segments) covered += segment.rows;
  return covered == rows;
}

void check_segments(const Segments& segments, std::int64_t rows) {
  std::int64_t end = 0;
  for (const Segment& segment : segments) {
    if (segment.first_row < end || segment.rows < 0 || segment.rows > rows - segment.first_row) {
      throw UserError(fmt::format("segment of {} rows from row {} on: {} rows are there, and the last segment ended at "
                                  "row {}",
                                  segment.rows, segment.first_row, rows, end),
                      "segments lie within the rows of a batch, in order and without overlap");
    }
    end = segment.first_row + segment.rows;
  }
}

}  // namespace krait::nn
