// A matrix of random floats, aligned as weights and states are, for the kernels' micro-benchmarks.
#pragma once

#include <cstdint>
#include <span>

#include "krait/core/aligned_buffer.h"
#include "krait/core/random.h"
#include "krait/kernels/rows.h"

namespace krait::bench {

class Floats {
 public:
  explicit Floats(std::int64_t rows, std::int64_t columns, double scale = 1.0, double shift = 0.0)
      : rows_(rows), columns_(columns), buffer_(static_cast<std::size_t>(rows * columns) * sizeof(float)) {
    Random random(static_cast<std::uint64_t>(rows + columns));
    for (float& v : buffer_.as<float>()) v = static_cast<float>(shift + scale * (2.0 * random.uniform() - 1.0));
  }
  float* data() { return buffer_.as<float>().data(); }
  std::byte* bytes() { return buffer_.data(); }
  kernels::RowsOut rows() { return {data(), rows_, columns_}; }
  std::span<float> values() { return buffer_.as<float>().first(static_cast<std::size_t>(rows_ * columns_)); }

 private:
  std::int64_t rows_, columns_;
  AlignedBuffer buffer_;
};

}  // namespace krait::bench
