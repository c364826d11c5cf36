// Sums over rows that several tasks share: each part of the rows has a place of its own, and the parts are added up in
// order. What is cut into parts, and how, must come from the shapes alone; then so do the sums.
#pragma once

#include <algorithm>
#include <cstdint>

#include "krait/core/aligned_buffer.h"
#include "krait/core/thread_pool.h"

namespace krait::kernels {

class PartialSums {
 public:
  // Zeros.
  PartialSums(std::int64_t parts, std::int64_t columns)
      : parts_(parts), columns_(columns), buffer_(static_cast<std::size_t>(parts * columns) * sizeof(float)) {}

  float* part(std::int64_t index) { return buffer_.as<float>().data() + index * columns_; }

  // to[i] += the sum over the parts of column first + i. A null `to` is not wanted.
  void add_to(ThreadPool& pool, std::int64_t first, std::int64_t count, float* to) {
    if (to == nullptr) return;
    pool.parallel_for(count, kColumnsPerTask, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = 0; i < parts_; ++i) {
        const float* const from = part(i) + first;
        for (std::int64_t c = begin; c < end; ++c) to[c] += from[c];
      }
    });
  }

 private:
  static constexpr std::int64_t kColumnsPerTask = 1024;
  std::int64_t parts_, columns_;
  AlignedBuffer buffer_;
};

// Calls body(row, sums) for every row of `columns` elements on some thread, `sums` being the place of `sum_columns`
// that the row's part adds to. Parts have some 65,000 elements, so that their sums are little beside the rows.
template <class Body>
PartialSums sum_over_rows(ThreadPool& pool, std::int64_t rows, std::int64_t columns, std::int64_t sum_columns,
                          Body&& body) {
  const std::int64_t part_rows = std::max<std::int64_t>(16, 65536 / std::max<std::int64_t>(1, columns));
  const std::int64_t parts = (rows + part_rows - 1) / part_rows;
  PartialSums sums(parts, sum_columns);
  pool.parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin * part_rows; row < std::min(rows, end * part_rows); ++row) {
      body(row, sums.part(row / part_rows));
    }
  });
  return sums;
}

}  // namespace krait::kernels
