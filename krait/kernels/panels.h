// How weight matrices stand in memory for the products: panels of 16 outputs, so that a vector holds one weight of each
// of 16 outputs, sums never run across a vector, and whoever multiplies reads memory in one direction.
//
//   f32, f16, bf16   panel [K][16]
//   everything else  codes (unsigned integers) in units of 64 bytes: 16 outputs x 4 consecutive k, one byte each, which
//                    is the operand of an integer dot product (u8 x s8, four at a time); K padded to whole blocks of
//                    32 with weights of zero. Before the codes stand the scales of the panel, rounded up to 64 bytes.
//     int8           codes w + 128; one f32 scale an output
//     int8 block     codes w + 128; an f16 scale for each output and block of 32 (GGUF's Q8_0 is this)
//     int4           codes 0 … 15, two units to 64 bytes: unit 2i in the low halves of the bytes, 2i + 1 in the high
//                    ones; an f16 scale for each output and group of 32 or 128; the value is scale (code - 8), or
//                    scale (code - zero) with an u8 zero point a group (GGUF's Q4_0 is group 32 without)
//     q4_k, q5_k     GGUF's: value d s code - m t; d, m f16 for each 256, s, t u8 for each 32; the fifth bits of the
//                    eight units of a block share 64 bytes after its halves: bit q of a byte belongs to unit q
//     q6_k           GGUF's: value d s (code - 32); d f16 for each 256, s i8 for each 16; the upper bit pairs of four
//                    units share 64 bytes: bits 2q, 2q + 1 belong to unit q (of 4)
// The layout does not depend on the instruction set: targets of fewer lanes read a unit in parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace krait::kernels {

inline constexpr std::int64_t kPanelOutputs = 16;
inline constexpr std::int64_t kPanelBlock = 32;  // k of one block of codes

enum class PanelFormat : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kInt8,
  kInt8Block,
  kInt4Group32,
  kInt4Group32Zero,
  kInt4Group128,
  kInt4Group128Zero,
  kQ4K,
  kQ5K,
  kQ6K,
};
// "f32", "int8", "int4" (group 32), "int4-group128-zero", "q4_k", …: as options and configurations write it.
std::string_view to_string(PanelFormat format);
std::optional<PanelFormat> parse_panel_format(std::string_view name);

// Whether x is multiplied as it is; otherwise x is rounded to 8 bits first.
inline bool is_float(PanelFormat format) { return format <= PanelFormat::kBF16; }

// Weights of K that share a scale; K of the file must be whole groups of the K types (256). 0: one scale an output.
std::int64_t scale_group(PanelFormat format);

struct PanelShape {
  std::int64_t panels = 0;       // ceil(N / 16)
  std::int64_t blocks = 0;       // ceil(K / 32); 0 for float formats
  std::int64_t scale_bytes = 0;  // before the codes, a multiple of 64
  std::int64_t panel_bytes = 0;  // of a whole panel, a multiple of 64
  std::int64_t total_bytes = 0;
};
// rows N, columns K >= 0 as a model may have them (below 2^24 each).
PanelShape panel_shape(PanelFormat format, std::int64_t rows, std::int64_t columns);

// One output of a low-bit matrix before it goes into a panel. Arrays hold a value for each weight or scale of the
// format; what it does not have is not read.
struct OutputCodes {
  const std::uint8_t* codes = nullptr;           // [K], unsigned as above
  float scale = 0.0F;                            // int8
  const std::uint16_t* scales = nullptr;         // f16 bits: [K / 32] or [K / 128] or, of the K types, d [K / 256]
  const std::uint16_t* minimums = nullptr;       // f16 bits: m [K / 256] of q4_k and q5_k
  const std::uint8_t* zeros = nullptr;           // [K / 32] or [K / 128]
  const std::uint8_t* block_scales = nullptr;    // s: [K / 32], q6_k (i8) [K / 16]
  const std::uint8_t* block_minimums = nullptr;  // t: [K / 32]
};

// Writes panel memory (panel_bytes, aligned to 64) from 1 … 16 outputs; outputs beyond `count` become zero.
void pack_float_panel(PanelFormat format, const float* const* rows, std::int64_t count, std::int64_t columns,
                      std::byte* panel);
void pack_code_panel(PanelFormat format, const OutputCodes* outputs, std::int64_t count, std::int64_t columns,
                     std::byte* panel);

// Output `row` of a panel widened to f32: y [K].
void unpack_row(PanelFormat format, const std::byte* panel, std::int64_t row, std::int64_t columns, float* y);

}  // namespace krait::kernels
