// What the tests of attention share: caches, what they give back of stored keys, and how far rounding may go.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "krait/core/aligned_buffer.h"
#include "krait/kernels/attention.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::tests {

using kernels::Attention;
using kernels::kv_pages;
using kernels::kv_ring_pages;
using kernels::KvSequence;
using kernels::KvShape;

// A sequence's cache: pages of its own, each with other bytes in front of this layer's part, or a ring.
class Cache {
 public:
  Cache(const Attention& attention, std::int64_t tokens, bool ring)
      : Cache(attention.kv, tokens, ring ? attention.window : 0) {}
  // A ring for a window that is not 0.
  Cache(const KvShape& shape, std::int64_t tokens, std::int64_t ring_window) : shape_(shape) {
    if (ring_window > 0) {
      ring_pages_ = kv_ring_pages(ring_window);
      buffers_.emplace_back(static_cast<std::size_t>(ring_pages_ * shape_.page_bytes()));
      return;
    }
    for (std::int64_t i = 0; i < kv_pages(tokens); ++i) {
      buffers_.emplace_back(static_cast<std::size_t>(kOffset + shape_.page_bytes()));
      pages_.push_back(buffers_.back().data());
    }
  }
  KvSequence sequence(std::int64_t first_row, std::int64_t rows, std::int64_t position) {
    KvSequence result{.first_row = first_row, .rows = rows, .position = position};
    if (ring_pages_ > 0) {
      result.ring = buffers_.front().data();
      result.ring_pages = ring_pages_;
    } else {
      result.pages = pages_.data();
      result.offset = kOffset;
    }
    return result;
  }

 private:
  static constexpr std::int64_t kOffset = 128;
  KvShape shape_;
  std::int64_t ring_pages_ = 0;
  std::vector<AlignedBuffer> buffers_;
  std::vector<std::byte*> pages_;
};

// What an int8 or bf16 page gives back of these rows, heads of so many columns.
inline Matrix stored(const Matrix& rows, std::int64_t width, DType dtype) {
  Matrix result(rows.rows(), rows.columns());
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    for (std::int64_t first = 0; first < rows.columns(); first += width) {
      float largest = 0.0F;
      for (std::int64_t c = first; c < first + width; ++c) largest = std::max(largest, std::fabs(rows.at(r, c)));
      for (std::int64_t c = first; c < first + width; ++c) {
        const float value = rows.at(r, c);
        const float scale = largest / 127.0F;
        result.at(r, c) = dtype == DType::kF32    ? value
                          : dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value))
                                                  : std::nearbyint(value * (1.0F / scale)) * scale;
      }
    }
  }
  return result;
}

inline Attention shape(std::int64_t query_heads, std::int64_t key_heads, std::int64_t value_heads,
                       std::int64_t key_width, std::int64_t value_width, DType dtype, std::int64_t window = 0) {
  return {.kv = {.key_heads = key_heads,
                 .key_width = key_width,
                 .value_heads = value_heads,
                 .value_width = value_width,
                 .dtype = dtype},
          .query_heads = query_heads,
          .scale = 1.0F / std::sqrt(static_cast<float>(key_width)),
          .window = window};
}

inline constexpr std::array kDtypes = {DType::kF32, DType::kBF16, DType::kI8};

// Scores are sums of Dk products (and of the scaled query, and of int8's scale): their error e is at most
// (Dk + 3) roundings of scale sum |q||k|, plus a rounding of the largest score when the maximum is taken away. It
// changes a weight by a factor of at most 1 + 2e, as do the exponential (|x| + 3 roundings) and the joining of parts.
// The weighted mean of v is a sum of T products, numerator and denominator alike. The result is the share of the mean
// of |v| that may be wrong: `score` is the largest of largest_score(), `tokens` how many are summed.
inline double attention_error(const Attention& attention, double score, std::int64_t tokens) {
  const auto width = static_cast<double>(attention.kv.key_width);
  const double weight = 2.0 * kRounding * ((width + 5.0) * score + 8.0);
  return 2.0 * weight + 2.0 * kRounding * (static_cast<double>(tokens) + 4.0);
}

// A bound of scale sum |q||k| over all queries and keys.
inline double largest_score(const Attention& attention, const Matrix& q, const Matrix& keys) {
  double score = 0.0;
  for (std::int64_t r = 0; r < q.rows(); ++r) {
    for (std::int64_t h = 0; h < attention.query_heads; ++h) {
      double query = 0.0;
      for (std::int64_t c = 0; c < attention.kv.key_width; ++c) {
        query = std::max(query, std::fabs(double{q.at(r, h * attention.kv.key_width + c)}));
      }
      for (std::int64_t j = 0; j < keys.rows(); ++j) {
        for (std::int64_t g = 0; g < attention.kv.key_heads; ++g) {
          double sum = 0.0;
          for (std::int64_t c = 0; c < attention.kv.key_width; ++c) {
            sum += query * std::fabs(double{keys.at(j, g * attention.kv.key_width + c)});
          }
          score = std::max(score, sum * attention.scale);
        }
      }
    }
  }
  return score;
}

}  // namespace krait::tests
