// How a recurrent state stands in memory: rows of `width` values kept as f32, bf16 or int8.
//   f32, bf16  [rows, width], dense
//   int8       [rows, width] whole numbers q, |q| <= 127; from the next multiple of 64 bytes on
//              [rows, ceil(width / 64)] f32 scales: value = q * scale of its block of 64 (a row's last may be shorter)
// Zero bytes are the zero state in each. Scans read a stored state widened, compute in f32 and round when they store:
// to one of the two numbers beside a value, with the chance of each that makes the mean right (the bits of the values
// and of the input decide, so that the same sequence always gives the same bits); a block of int8 has steps of its
// largest value / 127. A block whose values all lie below 2^-100 becomes zero. Why, and what it costs a model:
// docs/decisions/0005-stored-states-are-rounded-by-chance.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "krait/core/dtype.h"

namespace krait::kernels {

inline constexpr std::int64_t kStateBlock = 64;

inline bool is_state_dtype(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kI8; }

// Bytes of one value, scales apart.
inline std::int64_t state_value_bytes(DType dtype) { return info(dtype).bytes_per_block; }

inline std::int64_t state_blocks(std::int64_t width) { return (width + kStateBlock - 1) / kStateBlock; }

// Where the scales of an int8 state begin.
inline std::int64_t state_scales_offset(std::int64_t rows, std::int64_t width) {
  return (rows * width + kStateBlock - 1) / kStateBlock * kStateBlock;
}

inline std::int64_t state_bytes(DType dtype, std::int64_t rows, std::int64_t width) {
  if (dtype != DType::kI8) return rows * width * state_value_bytes(dtype);
  return state_scales_offset(rows, width) + rows * state_blocks(width) * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace krait::kernels
