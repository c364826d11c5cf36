// One output of a low-bit weight matrix: made from f32 weights by rounding, or taken over from a stored block format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "krait/core/dtype.h"
#include "krait/kernels/panels.h"

namespace krait::kernels {

// Owns what an OutputCodes points to; kept between rows, so that a matrix allocates once.
struct LowBitRow {
  std::vector<std::uint8_t> codes, zeros, block_scales, block_minimums;
  std::vector<std::uint16_t> scales, minimums;
  float scale = 0.0F;

  OutputCodes view() const {
    return {codes.data(),         scale, scales.data(), minimums.data(), zeros.data(), block_scales.data(),
            block_minimums.data()};
  }
};

// Rounds f32 weights [K]: int8 and int4 formats (InternalError for the K types, which only files have).
//   int8: scale max|w| / 127.   int4: the scale among 13 about max|w| / 8 with the least squared error, the largest
//   weight at code 0; with zero points: scale (max - min) / 15 over a range that includes 0.
// A weight that is not finite makes its scale not finite: the products show it.
void quantize_weights(PanelFormat format, const float* weights, std::int64_t columns, LowBitRow& row);

// The panels that hold a stored block type without loss; nothing for other types.
std::optional<PanelFormat> panel_format_of(DType blocks);
// Takes over a row of K weights (whole blocks) from its bytes. An int8 weight of -128, which no quantizer writes,
// becomes -127: the integer products need a symmetric range.
void read_blocks(DType blocks, const std::byte* bytes, std::int64_t columns, LowBitRow& row);

}  // namespace krait::kernels
