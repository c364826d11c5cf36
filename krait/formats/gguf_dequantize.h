// The block formats of GGUF to f32, one block after the other: the plain definition, not a fast kernel.
// Layouts after ggml-common.h and ggml-quants.c of github.com/ggml-org/ggml; d and m are binary16, all little-endian:
//   q8_0  32 values:  d, 32 signed bytes q                         w = d q
//   q4_0  32 values:  d, 16 bytes; value i in the low, value i+16 in the high half of byte i
//                                                                  w = d (q - 8)
//   q4_k  256 values: d, m, 12 bytes of 6-bit scales s and minima n for 8 groups of 32, 128 bytes of halves
//                                                                  w = d s q - m n
//   q5_k  the same with 32 bytes of fifth bits before the halves
//   q6_k  256 values: 128 bytes of low halves, 64 bytes of high bit pairs, 16 signed scales s for groups of 16, d
//                                                                  w = d s (q - 32)
#pragma once

#include <cstddef>
#include <span>

#include "krait/core/dtype.h"

namespace krait::formats {

// `blocks` holds exactly the blocks of `out`, whole ones; dtype is one of the five (KRAIT_CHECK).
void dequantize_blocks(DType dtype, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace krait::formats
