// Rotary position embedding (Su et al. 2021) of the first `width` components of every head:
//   pair i of a head at position p is turned by the angle p * theta^(-2i / width)
// Pairs are (i, i + width/2) as transformers has them, or neighbours (2i, 2i + 1) as llama.cpp's "norm" layout has
// them.
#pragma once

#include <cstdint>
#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

struct Rotary {
  std::int64_t width = 0;  // even, at most the heads' width; 0: no rotation
  double theta = 10000.0;
  bool neighbours = false;
  const float* divisors = nullptr;  // [width/2], of the angles; null: 1
  bool operator==(const Rotary&) const = default;
};

// table [M, width]: cosines of the row's width/2 angles, then their sines. Angles are computed in double: at position
// 100,000 a float's angle would be wrong in the third digit.
void rotary_table(ThreadPool& pool, const Rotary& rotary, std::span<const std::int64_t> positions, RowsOut table);

// Turns x [M, heads * head_width] in place.
void rotate(ThreadPool& pool, const Rotary& rotary, RowsIn table, std::int64_t head_width, RowsOut x);

// Turns it back: the inverse of rotate, and so what makes the gradient of its input of that of its result, in place.
void rotate_backward(ThreadPool& pool, const Rotary& rotary, RowsIn table, std::int64_t head_width, RowsOut x);

}  // namespace krait::kernels
