// Activations rounded to 8 bits for integer products, in the ways that activation_rounding.h defines: here as the
// integers and scales themselves, laid out for the product with panels.
#pragma once

#include <cstdint>

#include "krait/core/thread_pool.h"
#include "krait/kernels/activation_rounding.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// x[m, k] ~ scale values[m, k]. K is padded to whole blocks of 32 with zeros.
struct QuantizedRows {
  const std::int8_t* values = nullptr;   // [M, stride], in [-127, 127]
  const float* scales = nullptr;         // [M, blocks]: of every block of 32, also where several share one
  const std::int32_t* sums = nullptr;    // [M, 2 blocks]: of the values of each 16
  const std::int32_t* totals = nullptr;  // [M]: of the whole row
  const std::int32_t* starts = nullptr;  // [M, 2 blocks]: where the sum of products of a block begins, -zero times the
                                         // sum of its values; of each 16, or of each 32 (every other entry unused)
  std::int64_t stride = 0;               // 32 blocks
  std::int64_t blocks = 0;               // ceil(K / 32)

  const std::int8_t* value_row(std::int64_t row) const { return values + row * stride; }
  const float* scale_row(std::int64_t row) const { return scales + row * blocks; }
  const std::int32_t* sum_row(std::int64_t row) const { return sums + row * 2 * blocks; }
  const std::int32_t* start_row(std::int64_t row) const { return starts + row * 2 * blocks; }
  QuantizedRows from_row(std::int64_t row) const {
    return {value_row(row), scale_row(row), sum_row(row), totals + row, start_row(row), stride, blocks};
  }
};

// What the weights' codes count from, and whether blocks of 16 have sums of their own.
struct CodeZero {
  std::int32_t zero = 0;
  bool sixteens = false;
};

// `format` is kQ8Row, kQ8Block32 or kQ8Block256; K must be whole blocks of 256 for
// the last. The result stands in memory of the
// calling thread and is valid until its next call.
QuantizedRows quantize_rows(ThreadPool& pool, ActivationFormat format, CodeZero zero, RowsIn x);

}  // namespace krait::kernels
