#include "krait/kernels/panels.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "krait/core/check.h"
#include "krait/core/dtype.h"

namespace krait::kernels {
namespace {

constexpr std::int64_t kUnit = 64;    // bytes: 16 outputs x 4 k
constexpr std::int64_t kSuper = 256;  // k of a super-block of the K types

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// What a format keeps, in bytes for 16 outputs.
struct Layout {
  std::string_view name;
  std::int64_t block_codes;  // codes of a block of 32
  std::int64_t group;        // k of one entry of the first scale array; 0: one entry for all
  std::int64_t group_scale;  // bytes of such an entry (scales, with minimums)
  std::int64_t group_zero;   // bytes of its zero points
  std::int64_t block_scale;  // bytes of the scales of each block of 32
};

constexpr std::array<Layout, 12> kLayouts = {{
    {"f32", 0, 0, 0, 0, 0},
    {"f16", 0, 0, 0, 0, 0},
    {"bf16", 0, 0, 0, 0, 0},
    {"int8", 512, 0, 64, 0, 0},
    {"int8-block32", 512, 32, 32, 0, 0},
    {"int4", 256, 32, 32, 0, 0},
    {"int4-zero", 256, 32, 32, 16, 0},
    {"int4-group128", 256, 128, 32, 0, 0},
    {"int4-group128-zero", 256, 128, 32, 16, 0},
    {"q4_k", 256, 256, 64, 0, 32},
    {"q5_k", 320, 256, 64, 0, 32},
    {"q6_k", 384, 256, 32, 0, 32},
}};

const Layout& layout(PanelFormat format) { return kLayouts[static_cast<std::size_t>(format)]; }

std::int64_t float_bytes(PanelFormat format) { return format == PanelFormat::kF32 ? 4 : 2; }

// Where the parts of the scales of a panel start.
struct ScaleParts {
  std::int64_t groups = 0;
  std::int64_t zeros = 0;
  std::int64_t blocks = 0;
  std::int64_t end = 0;
};

ScaleParts scale_parts(PanelFormat format, std::int64_t columns) {
  const Layout& kind = layout(format);
  const std::int64_t blocks = divide_up(columns, kPanelBlock);
  const std::int64_t groups = kind.group == 0 ? 1 : divide_up(blocks * kPanelBlock, kind.group);
  ScaleParts parts;
  parts.zeros = groups * kind.group_scale;
  parts.blocks = parts.zeros + groups * kind.group_zero;
  parts.end = divide_up(parts.blocks + blocks * kind.block_scale, kUnit) * kUnit;
  return parts;
}

// The code of output `row` at column k within the block that holds it.
std::uint8_t code_at(PanelFormat format, const std::uint8_t* block, std::int64_t row, std::int64_t k) {
  const std::int64_t unit = k / 4;
  const std::int64_t lane = row * 4 + k % 4;
  if (layout(format).block_codes == 512) return block[unit * kUnit + lane];
  const int half = (block[unit / 2 * kUnit + lane] >> (unit % 2 * 4)) & 0xf;
  if (format == PanelFormat::kQ5K) return static_cast<std::uint8_t>(half | ((block[256 + lane] >> unit) & 1) << 4);
  if (format == PanelFormat::kQ6K) {
    return static_cast<std::uint8_t>(half | ((block[256 + unit / 4 * kUnit + lane] >> (unit % 4 * 2)) & 3) << 4);
  }
  return static_cast<std::uint8_t>(half);
}

// The code that stands for a weight of zero, for padding.
std::uint8_t zero_code(PanelFormat format) {
  switch (format) {
    case PanelFormat::kInt8:
    case PanelFormat::kInt8Block: return 128;
    case PanelFormat::kInt4Group32:
    case PanelFormat::kInt4Group128: return 8;
    case PanelFormat::kQ6K: return 32;
    default: return 0;
  }
}

std::uint32_t load_word(const std::uint8_t* from) {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

// Codes of 16 outputs, 32 columns each, into one block. `from` are whole rows of 32 codes.
void pack_block(PanelFormat format, const std::uint8_t* const (&from)[kPanelOutputs], std::uint8_t* block) {
  for (std::int64_t row = 0; row < kPanelOutputs; ++row) {
    std::uint32_t words[8];
    for (int unit = 0; unit < 8; ++unit) words[unit] = load_word(from[row] + 4 * unit);
    const auto put = [&](std::int64_t at, std::uint32_t word) { std::memcpy(block + at + row * 4, &word, 4); };
    if (layout(format).block_codes == 512) {
      for (int unit = 0; unit < 8; ++unit) put(unit * kUnit, words[unit]);
      continue;
    }
    for (int pair = 0; pair < 4; ++pair) {
      put(pair * kUnit, (words[2 * pair] & 0x0f0f0f0fU) | (words[2 * pair + 1] & 0x0f0f0f0fU) << 4);
    }
    if (format == PanelFormat::kQ5K) {
      std::uint32_t fifth = 0;
      for (int unit = 0; unit < 8; ++unit) fifth |= ((words[unit] >> 4) & 0x01010101U) << unit;
      put(256, fifth);
    }
    if (format == PanelFormat::kQ6K) {
      for (int four = 0; four < 2; ++four) {
        std::uint32_t pairs = 0;
        for (int unit = 0; unit < 4; ++unit) pairs |= ((words[4 * four + unit] >> 4) & 0x03030303U) << (2 * unit);
        put(256 + four * kUnit, pairs);
      }
    }
  }
}

}  // namespace

std::string_view to_string(PanelFormat format) { return layout(format).name; }

std::optional<PanelFormat> parse_panel_format(std::string_view name) {
  const auto* found = std::ranges::find(kLayouts, name, &Layout::name);
  if (found == kLayouts.end()) return std::nullopt;
  return static_cast<PanelFormat>(found - kLayouts.begin());
}

std::int64_t scale_group(PanelFormat format) { return layout(format).group; }

PanelShape panel_shape(PanelFormat format, std::int64_t rows, std::int64_t columns) {
  PanelShape shape;
  shape.panels = divide_up(rows, kPanelOutputs);
  if (is_float(format)) {
    shape.panel_bytes = columns * kPanelOutputs * float_bytes(format);
    shape.panel_bytes = divide_up(shape.panel_bytes, kUnit) * kUnit;
  } else {
    shape.blocks = divide_up(columns, kPanelBlock);
    shape.scale_bytes = scale_parts(format, columns).end;
    shape.panel_bytes = shape.scale_bytes + shape.blocks * layout(format).block_codes;
  }
  shape.total_bytes = shape.panels * shape.panel_bytes;
  return shape;
}

void pack_float_panel(PanelFormat format, const float* const* rows, std::int64_t count, std::int64_t columns,
                      std::byte* panel) {
  KRAIT_CHECK(is_float(format) && count >= 1 && count <= kPanelOutputs, "{} rows of {}", count, to_string(format));
  auto* floats = reinterpret_cast<float*>(panel);
  auto* halves = reinterpret_cast<std::uint16_t*>(panel);
  for (std::int64_t row = 0; row < kPanelOutputs; ++row) {
    const float* from = row < count ? rows[row] : nullptr;
    for (std::int64_t k = 0; k < columns; ++k) {
      const float value = from == nullptr ? 0.0F : from[k];
      const std::int64_t at = k * kPanelOutputs + row;
      if (format == PanelFormat::kF32) {
        floats[at] = value;
      } else {
        halves[at] = format == PanelFormat::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
      }
    }
  }
}

void pack_code_panel(PanelFormat format, const OutputCodes* outputs, std::int64_t count, std::int64_t columns,
                     std::byte* panel) {
  KRAIT_CHECK(!is_float(format) && count >= 1 && count <= kPanelOutputs, "{} rows of {}", count, to_string(format));
  const Layout& kind = layout(format);
  const ScaleParts parts = scale_parts(format, columns);
  const std::int64_t blocks = divide_up(columns, kPanelBlock);
  auto* bytes = reinterpret_cast<std::uint8_t*>(panel);
  std::fill_n(bytes, parts.end, std::uint8_t{0});
  const auto store16 = [&](std::int64_t at, std::uint16_t value) { std::memcpy(bytes + at, &value, sizeof value); };
  for (std::int64_t row = 0; row < count; ++row) {
    const OutputCodes& output = outputs[row];
    if (format == PanelFormat::kInt8) {
      std::memcpy(bytes + row * 4, &output.scale, sizeof output.scale);
      continue;
    }
    const std::int64_t groups = divide_up(columns, kind.group);
    for (std::int64_t g = 0; g < groups; ++g) {
      store16(g * kind.group_scale + row * 2, output.scales[g]);
      if (kind.group_scale == 64) store16(g * kind.group_scale + 32 + row * 2, output.minimums[g]);
      if (kind.group_zero != 0) bytes[parts.zeros + g * kind.group_zero + row] = output.zeros[g];
    }
    if (kind.block_scale == 0) continue;
    for (std::int64_t b = 0; b < blocks; ++b) {
      std::uint8_t* at = bytes + parts.blocks + b * kind.block_scale + row;
      const bool sixth = format == PanelFormat::kQ6K;
      at[0] = sixth ? output.block_scales[2 * b] : output.block_scales[b];
      at[kPanelOutputs] = sixth ? output.block_scales[2 * b + 1] : output.block_minimums[b];
    }
  }
  std::uint8_t padding[kPanelBlock];
  std::fill_n(padding, kPanelBlock, zero_code(format));
  std::uint8_t last[kPanelOutputs][kPanelBlock];
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t first = b * kPanelBlock;
    const std::int64_t there = std::min(kPanelBlock, columns - first);
    const std::uint8_t* from[kPanelOutputs];
    for (std::int64_t row = 0; row < kPanelOutputs; ++row) {
      from[row] = row < count ? outputs[row].codes + first : padding;
      if (row < count && there < kPanelBlock) {
        std::copy_n(outputs[row].codes + first, there, last[row]);
        std::fill_n(last[row] + there, kPanelBlock - there, zero_code(format));
        from[row] = last[row];
      }
    }
    pack_block(format, from, bytes + parts.end + b * kind.block_codes);
  }
}

void unpack_row(PanelFormat format, const std::byte* panel, std::int64_t row, std::int64_t columns, float* y) {
  if (is_float(format)) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(panel);
    for (std::int64_t k = 0; k < columns; ++k) {
      const std::int64_t at = k * kPanelOutputs + row;
      y[k] = format == PanelFormat::kF32    ? reinterpret_cast<const float*>(panel)[at]
             : format == PanelFormat::kBF16 ? bf16_to_f32(halves[at])
                                            : f16_to_f32(halves[at]);
    }
    return;
  }
  const Layout& kind = layout(format);
  const ScaleParts parts = scale_parts(format, columns);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(panel);
  const auto half = [&](std::int64_t at) {
    std::uint16_t bits;
    std::memcpy(&bits, bytes + at, sizeof bits);
    return f16_to_f32(bits);
  };
  for (std::int64_t first = 0; first < columns; first += kPanelOutputs) {
    const std::int64_t block = first / kPanelBlock;
    float scale = 0.0F;
    float shift = 0.0F;  // value = scale code - shift
    if (format == PanelFormat::kInt8) {
      std::memcpy(&scale, bytes + row * 4, sizeof scale);
    } else {
      const std::int64_t group = first / kind.group;
      scale = half(group * kind.group_scale + row * 2);
      const std::uint8_t* of_block = bytes + parts.blocks + block * kind.block_scale + row;
      if (kind.group_scale == 64) {
        shift = half(group * kind.group_scale + 32 + row * 2) * static_cast<float>(of_block[kPanelOutputs]);
        scale *= static_cast<float>(of_block[0]);
      } else if (format == PanelFormat::kQ6K) {
        const std::uint8_t code = of_block[first % kPanelBlock / kPanelOutputs * kPanelOutputs];
        scale *= static_cast<float>(static_cast<std::int8_t>(code));
      }
      if (kind.group_zero != 0) shift = scale * static_cast<float>(bytes[parts.zeros + group * kind.group_zero + row]);
    }
    const int zero = zero_code(format);
    const std::uint8_t* codes = bytes + parts.end + block * kind.block_codes;
    for (std::int64_t k = first; k < std::min(columns, first + kPanelOutputs); ++k) {
      y[k] = scale * static_cast<float>(code_at(format, codes, row, k % kPanelBlock) - zero) - shift;
    }
  }
}

}  // namespace krait::kernels
