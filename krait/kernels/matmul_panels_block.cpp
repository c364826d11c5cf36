// Products with panels whose scales belong to blocks of weights. For each block of 32 k:
//   y[m, n] += scale_x[m] (scale_w[n] sum_k x code - shift_w[n] sum_k x)
// with the inner sum in whole numbers. A code counts from `zero`, which enters as -zero sum_k x before the first
// product. q6_k has scales of 16, so its blocks are two halves.
#include <algorithm>

#include "krait/core/check.h"
#include "krait/kernels/matmul_panels_task.h"
#include "krait/kernels/simd/highway_config.h"

//
#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/matmul_panels_block.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/dot_int8-inl.h"
#include "krait/kernels/simd/panel_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Vectors are taken in parts of a panel where lanes are fewer than 16: `part` is the first lane of the vector.
HWY_INLINE VecF32 load_halves(const std::uint8_t* from, std::int64_t part) {
  return WeightF16::load(reinterpret_cast<const std::byte*>(from + 2 * part));
}
HWY_INLINE VecF32 load_bytes(const std::uint8_t* from, std::int64_t part) {
  const hn::Rebind<std::uint8_t, F32> du8;
  return hn::ConvertTo(F32(), hn::PromoteTo(I32(), hn::LoadU(du8, from + part)));
}
HWY_INLINE VecF32 load_signed_bytes(const std::uint8_t* from, std::int64_t part) {
  const hn::Rebind<std::int8_t, F32> di8;
  return hn::ConvertTo(F32(), hn::PromoteTo(I32(), hn::LoadU(di8, reinterpret_cast<const std::int8_t*>(from) + part)));
}

HWY_INLINE VecU8 mask_bits(VecU8 v, std::uint8_t mask) { return hn::And(v, hn::Set(U8(), mask)); }
template <int kBits>
HWY_INLINE VecU8 shift_right(VecU8 v) {  // within bytes once masked
  const hn::Repartition<std::uint16_t, F32> du16;
  return hn::BitCast(U8(), hn::ShiftRight<kBits>(hn::BitCast(du16, v)));
}
template <int kBits>
HWY_INLINE VecU8 shift_left(VecU8 v) {
  const hn::Repartition<std::uint16_t, F32> du16;
  return hn::BitCast(U8(), hn::ShiftLeft<kBits>(hn::BitCast(du16, v)));
}

// The formats. scale() and shift() are of block b; codes<unit>() of one of its eight units, at byte `at` of the unit.
struct Narrow {
  static constexpr bool kHalves = false, kWide = false;
  template <int kUnit>
  static HWY_INLINE VecU8 half_bytes(const std::uint8_t* block, std::int64_t at) {
    const VecU8 both = hn::LoadU(U8(), block + kUnit / 2 * 64 + at);
    return mask_bits(kUnit % 2 == 0 ? both : shift_right<4>(both), 0x0f);
  }
};

struct Int8Block {
  static constexpr bool kHalves = false, kWide = true, kShift = false;
  static constexpr std::int64_t kCodeBytes = 512;
  template <int kUnit>
  static HWY_INLINE VecU8 codes(const std::uint8_t* block, std::int64_t at) {
    return hn::LoadU(U8(), block + kUnit * 64 + at);
  }
  static HWY_INLINE VecF32 scale(const PanelTask&, const std::uint8_t* panel, std::int64_t b, int, std::int64_t part) {
    return load_halves(panel + b * 32, part);
  }
};

template <std::int64_t kGroupBlocks>
struct Int4 : Narrow {
  static constexpr bool kShift = false;
  static constexpr std::int64_t kCodeBytes = 256;
  template <int kUnit>
  static HWY_INLINE VecU8 codes(const std::uint8_t* block, std::int64_t at) {
    return half_bytes<kUnit>(block, at);
  }
  static HWY_INLINE VecF32 scale(const PanelTask&, const std::uint8_t* panel, std::int64_t b, int, std::int64_t part) {
    return load_halves(panel + b / kGroupBlocks * 32, part);
  }
};

template <std::int64_t kGroupBlocks>
struct Int4Zero : Int4<kGroupBlocks> {
  static constexpr bool kShift = true;
  static HWY_INLINE VecF32 shift(const PanelTask& task, const std::uint8_t* panel, std::int64_t b, std::int64_t part,
                                 VecF32 scale) {
    const std::int64_t groups = (task.quantized.blocks + kGroupBlocks - 1) / kGroupBlocks;
    return hn::Mul(scale, load_bytes(panel + groups * 32 + b / kGroupBlocks * 16, part));
  }
};

struct Q4K : Narrow {
  static constexpr bool kShift = true;
  static constexpr std::int64_t kCodeBytes = 256;
  template <int kUnit>
  static HWY_INLINE VecU8 codes(const std::uint8_t* block, std::int64_t at) {
    return half_bytes<kUnit>(block, at);
  }
  // After the pairs d, m of every 256.
  static HWY_INLINE const std::uint8_t* of_block(const PanelTask& task, const std::uint8_t* panel, std::int64_t b) {
    return panel + task.quantized.blocks / 8 * 64 + b * 32;
  }
  static HWY_INLINE VecF32 scale(const PanelTask& task, const std::uint8_t* panel, std::int64_t b, int,
                                 std::int64_t part) {
    return hn::Mul(load_halves(panel + b / 8 * 64, part), load_bytes(of_block(task, panel, b), part));
  }
  static HWY_INLINE VecF32 shift(const PanelTask& task, const std::uint8_t* panel, std::int64_t b, std::int64_t part,
                                 VecF32) {
    return hn::Mul(load_halves(panel + b / 8 * 64 + 32, part), load_bytes(of_block(task, panel, b) + 16, part));
  }
};

struct Q5K : Q4K {
  static constexpr std::int64_t kCodeBytes = 320;
  template <int kUnit>
  static HWY_INLINE VecU8 codes(const std::uint8_t* block, std::int64_t at) {
    const VecU8 fifth = mask_bits(shift_right<kUnit>(hn::LoadU(U8(), block + 256 + at)), 1);
    return hn::Or(half_bytes<kUnit>(block, at), shift_left<4>(fifth));
  }
};

struct Q6K : Narrow {
  static constexpr bool kHalves = true, kShift = false;
  static constexpr std::int64_t kCodeBytes = 384;
  template <int kUnit>
  static HWY_INLINE VecU8 codes(const std::uint8_t* block, std::int64_t at) {
    const VecU8 pairs = hn::LoadU(U8(), block + 256 + kUnit / 4 * 64 + at);
    return hn::Or(half_bytes<kUnit>(block, at), shift_left<4>(mask_bits(shift_right<kUnit % 4 * 2>(pairs), 3)));
  }
  static HWY_INLINE VecF32 scale(const PanelTask& task, const std::uint8_t* panel, std::int64_t b, int half,
                                 std::int64_t part) {
    const std::uint8_t* signed_scales = panel + task.quantized.blocks / 8 * 32 + b * 32 + half * 16;
    return hn::Mul(load_halves(panel + b / 8 * 32, part), load_signed_bytes(signed_scales, part));
  }
};

template <class Dot, class Format>
HWY_INLINE VecI32 dot(VecI32 acc, VecU8 codes, VecI32 x) {
  if constexpr (Format::kWide) {
    return Dot::wide(acc, codes, x);
  } else {
    return Dot::narrow(acc, codes, x);
  }
}

// Units kFirst and kFirst + 1 of one vector of outputs, for all rows.
template <class Dot, class Format, int kFirst, std::int64_t kRows>
HWY_INLINE void two_units(const std::uint8_t* block, std::int64_t at, const std::int8_t* x, std::int64_t x_stride,
                          VecI32 (&sum)[kRows]) {
  const VecU8 first = Format::template codes<kFirst>(block, at), second = Format::template codes<kFirst + 1>(block, at);
  for (std::int64_t m = 0; m < kRows; ++m) {
    sum[m] = dot<Dot, Format>(sum[m], first, broadcast_four(x + m * x_stride + 4 * kFirst));
    sum[m] = dot<Dot, Format>(sum[m], second, broadcast_four(x + m * x_stride + 4 * kFirst + 4));
  }
}

template <bool kRowScales, std::int64_t kRows>
HWY_INLINE void add_scaled(VecF32 scale, const QuantizedRows& q, std::int64_t row, std::int64_t b,
                           const VecI32 (&sum)[kRows], VecF32 (&y)[kRows][kPanelVectors], std::int64_t v) {
  const F32 d;
  for (std::int64_t m = 0; m < kRows; ++m) {
    const VecF32 both = kRowScales ? scale : hn::Mul(scale, hn::Set(d, q.scale_row(row + m)[b]));
    y[m][v] = hn::MulAdd(hn::ConvertTo(d, sum[m]), both, y[m][v]);
  }
}

template <std::int64_t kRows>
HWY_INLINE void begin_sums(const QuantizedRows& q, std::int64_t row, std::int64_t sixteen, VecI32 (&sum)[kRows]) {
  for (std::int64_t m = 0; m < kRows; ++m) sum[m] = hn::Set(I32(), q.start_row(row + m)[sixteen]);
}

template <class Dot, class Format, bool kRowScales, std::int64_t kRows>
HWY_INLINE void block_rows(const PanelTask& task, std::int64_t row, std::int64_t panel) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  const QuantizedRows& q = task.quantized;
  const auto* scales = reinterpret_cast<const std::uint8_t*>(task.weight + panel * task.panel_bytes);
  const std::uint8_t* block = scales + task.scale_bytes;
  VecF32 y[kRows][kPanelVectors];
  for (std::int64_t m = 0; m < kRows; ++m) {
    for (std::int64_t v = 0; v < kPanelVectors; ++v) y[m][v] = hn::Zero(d);
  }
  const std::int8_t* x = q.value_row(row);
  for (std::int64_t b = 0; b < q.blocks; ++b) {
    if (row == 0) {
      for (std::int64_t i = 0; i < Format::kCodeBytes; i += 64) hwy::Prefetch(block + kPanelsAhead + i);
    }
    for (std::int64_t v = 0; v < kPanelVectors; ++v) {
      const std::int64_t part = v * lanes;
      VecI32 sum[kRows];
      begin_sums(q, row, 2 * b, sum);
      two_units<Dot, Format, 0>(block, 4 * part, x, q.stride, sum);
      two_units<Dot, Format, 2>(block, 4 * part, x, q.stride, sum);
      if constexpr (Format::kHalves) {
        add_scaled<kRowScales>(Format::scale(task, scales, b, 0, part), q, row, b, sum, y, v);
        begin_sums(q, row, 2 * b + 1, sum);
      }
      two_units<Dot, Format, 4>(block, 4 * part, x, q.stride, sum);
      two_units<Dot, Format, 6>(block, 4 * part, x, q.stride, sum);
      const VecF32 scale = Format::scale(task, scales, b, 1, part);
      add_scaled<kRowScales>(scale, q, row, b, sum, y, v);
      if constexpr (Format::kShift) {
        const VecF32 shift = Format::shift(task, scales, b, part, scale);
        for (std::int64_t m = 0; m < kRows; ++m) {
          const std::int32_t* sums = q.sum_row(row + m) + 2 * b;
          const float scale_x = kRowScales ? 1.0F : q.scale_row(row + m)[b];
          const float total = scale_x * static_cast<float>(sums[0] + sums[1]);
          y[m][v] = hn::NegMulAdd(shift, hn::Set(d, total), y[m][v]);
        }
      }
    }
    block += Format::kCodeBytes;
    x += kPanelBlock;
  }
  const std::int64_t at = panel * kPanelOutputs;
  for (std::int64_t m = 0; m < kRows; ++m) {
    const float scale = kRowScales ? task.scale * q.scale_row(row + m)[0] : task.scale;
    store_panel(y[m], scale, task.bias == nullptr ? nullptr : task.bias + at, task.y.row(row + m) + at,
                task.outputs - at);
  }
}

template <class Dot, class Format, bool kRowScales = false>
HWY_INLINE void block_task(const PanelTask& task) {
  constexpr std::int64_t kMost = kLanes >= 16 ? 8 : 2;
  for (std::int64_t panel = 0; panel < task.panels; ++panel) {
    std::int64_t row = 0;
    for (; row + kMost <= task.y.rows; row += kMost) block_rows<Dot, Format, kRowScales, kMost>(task, row, panel);
    if constexpr (kMost > 4) {
      if (row + 4 <= task.y.rows) {
        block_rows<Dot, Format, kRowScales, 4>(task, row, panel);
        row += 4;
      }
      if (row + 2 <= task.y.rows) {
        block_rows<Dot, Format, kRowScales, 2>(task, row, panel);
        row += 2;
      }
    }
    if (row < task.y.rows) block_rows<Dot, Format, kRowScales, 1>(task, row, panel);
  }
}

// A scale a row waits until the sum is complete.
template <class Dot, class Format>
HWY_INLINE void int4_task(const PanelTask& task) {
  if (task.row_scales) {
    block_task<Dot, Format, true>(task);
  } else {
    block_task<Dot, Format, false>(task);
  }
}

template <class Dot>
HWY_INLINE void any_block_task(const PanelTask& task) {
  switch (task.format) {
    case PanelFormat::kInt8Block: block_task<Dot, Int8Block>(task); return;
    case PanelFormat::kInt4Group32: int4_task<Dot, Int4<1>>(task); return;
    case PanelFormat::kInt4Group32Zero: int4_task<Dot, Int4Zero<1>>(task); return;
    case PanelFormat::kInt4Group128: int4_task<Dot, Int4<4>>(task); return;
    case PanelFormat::kInt4Group128Zero: int4_task<Dot, Int4Zero<4>>(task); return;
    case PanelFormat::kQ4K: block_task<Dot, Q4K>(task); return;
    case PanelFormat::kQ5K: block_task<Dot, Q5K>(task); return;
    case PanelFormat::kQ6K: block_task<Dot, Q6K>(task); return;
    default: return;
  }
}

void block_panels(const PanelTask& task) {
#if KRAIT_DOT_VNNI
  if (task.vnni) {
    any_block_task<DotVnni>(task);
    return;
  }
#endif
  any_block_task<DotPairs>(task);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(block_panels);

}  // namespace

void run_block_panels(const PanelTask& task) {
  KRAIT_CHECK(!is_float(task.format) && task.format != PanelFormat::kInt8, "format {}", to_string(task.format));
  HWY_DYNAMIC_DISPATCH(block_panels)(task);
}

}  // namespace krait::kernels
#endif
