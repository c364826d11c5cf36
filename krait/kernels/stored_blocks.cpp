// GGUF's block types taken over as codes and scales, bit for bit.
#include <algorithm>
#include <cstring>

#include "krait/core/check.h"
#include "krait/kernels/low_bit_row.h"

namespace krait::kernels {
namespace {

std::uint16_t half_at(const std::uint8_t* bytes) {
  std::uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return bits;
}

// f16 scale, 32 signed bytes.
void read_q8_0(const std::uint8_t* block, std::int64_t index, LowBitRow& row) {
  row.scales[static_cast<std::size_t>(index)] = half_at(block);
  std::uint8_t* codes = row.codes.data() + index * 32;
  for (int i = 0; i < 32; ++i) {
    codes[i] = std::max<std::uint8_t>(1, static_cast<std::uint8_t>(block[2 + i] ^ 0x80));
  }
}

// f16 scale, 16 bytes: values 0 … 15 in the low halves, 16 … 31 in the high ones.
void read_q4_0(const std::uint8_t* block, std::int64_t index, LowBitRow& row) {
  row.scales[static_cast<std::size_t>(index)] = half_at(block);
  std::uint8_t* codes = row.codes.data() + index * 32;
  for (int i = 0; i < 16; ++i) {
    codes[i] = block[2 + i] & 0xf;
    codes[16 + i] = block[2 + i] >> 4;
  }
}

// d, m, twelve bytes of 6-bit scales and minimums, (Q5_K: 32 bytes of fifth bits,) 128 bytes of halves. Bytes 0 – 3 and
// 4 – 7 of the twelve: scales and minimums of blocks 0 – 3; bytes 8 – 11: the low four bits of those of blocks 4 – 7,
// whose upper two bits are the upper bits of bytes 0 – 7.
void read_q45_k(const std::uint8_t* block, bool fifth_bits, std::int64_t index, LowBitRow& row) {
  const auto at = static_cast<std::size_t>(index);
  row.scales[at] = half_at(block);
  row.minimums[at] = half_at(block + 2);
  const std::uint8_t* packed = block + 4;
  const std::uint8_t* fifth = block + 16;
  const std::uint8_t* halves = block + (fifth_bits ? 48 : 16);
  for (std::size_t group = 0; group < 8; ++group) {
    std::uint8_t& scale = row.block_scales[8 * at + group];
    std::uint8_t& minimum = row.block_minimums[8 * at + group];
    if (group < 4) {
      scale = packed[group] & 63;
      minimum = packed[group + 4] & 63;
    } else {
      scale = static_cast<std::uint8_t>((packed[group + 4] & 0xf) | (packed[group - 4] >> 6) << 4);
      minimum = static_cast<std::uint8_t>((packed[group + 4] >> 4) | (packed[group] >> 6) << 4);
    }
    const std::uint8_t* bytes = halves + group / 2 * 32;
    std::uint8_t* codes = row.codes.data() + at * 256 + group * 32;
    for (int i = 0; i < 32; ++i) {
      int code = group % 2 == 0 ? bytes[i] & 0xf : bytes[i] >> 4;
      if (fifth_bits) code |= (fifth[i] >> group & 1) << 4;
      codes[i] = static_cast<std::uint8_t>(code);
    }
  }
}

// 128 bytes of halves, 64 of bit pairs, 16 signed scales, d. Each half of the block (128 values) has four rows of 32:
// halves from bytes (r mod 2) 32, low ones for r < 2; bit pair r.
void read_q6_k(const std::uint8_t* block, std::int64_t index, LowBitRow& row) {
  row.scales[static_cast<std::size_t>(index)] = half_at(block + 208);
  std::copy_n(block + 192, 16, row.block_scales.data() + index * 16);
  std::uint8_t* codes = row.codes.data() + index * 256;
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* low = block + half * 64;
    const std::uint8_t* high = block + 128 + half * 32;
    for (int r = 0; r < 4; ++r) {
      for (int i = 0; i < 32; ++i) {
        const int byte = low[r % 2 * 32 + i];
        codes[half * 128 + r * 32 + i] =
            static_cast<std::uint8_t>((r < 2 ? byte & 0xf : byte >> 4) | (high[i] >> (2 * r) & 3) << 4);
      }
    }
  }
}

}  // namespace

std::optional<PanelFormat> panel_format_of(DType blocks) {
  switch (blocks) {
    case DType::kQ8_0: return PanelFormat::kInt8Block;
    case DType::kQ4_0: return PanelFormat::kInt4Group32;
    case DType::kQ4_K: return PanelFormat::kQ4K;
    case DType::kQ5_K: return PanelFormat::kQ5K;
    case DType::kQ6_K: return PanelFormat::kQ6K;
    default: return std::nullopt;
  }
}

void read_blocks(DType blocks, const std::byte* bytes, std::int64_t columns, LowBitRow& row) {
  const DTypeInfo& type = info(blocks);
  KRAIT_CHECK(panel_format_of(blocks).has_value() && columns % type.elements_per_block == 0, "{} columns of {}",
              columns, to_string(blocks));
  const std::int64_t count = columns / type.elements_per_block;
  row.codes.resize(static_cast<std::size_t>(columns));
  row.scales.resize(static_cast<std::size_t>(count));
  row.minimums.resize(static_cast<std::size_t>(count));
  row.block_scales.resize(static_cast<std::size_t>(columns / 16));
  row.block_minimums.resize(static_cast<std::size_t>(columns / 32));
  const auto* block = reinterpret_cast<const std::uint8_t*>(bytes);
  for (std::int64_t i = 0; i < count; ++i, block += type.bytes_per_block) {
    switch (blocks) {
      case DType::kQ8_0: read_q8_0(block, i, row); break;
      case DType::kQ4_0: read_q4_0(block, i, row); break;
      case DType::kQ4_K: read_q45_k(block, false, i, row); break;
      case DType::kQ5_K: read_q45_k(block, true, i, row); break;
      default: read_q6_k(block, i, row); break;
    }
  }
}

}  // namespace krait::kernels
