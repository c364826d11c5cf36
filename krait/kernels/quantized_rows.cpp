#include "krait/kernels/quantized_rows.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/quantized_rows.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// NaN when a number is infinite or none, so that the products are NaN too.
float largest_magnitude(const float* x, std::int64_t count) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  VecF32 largest = hn::Zero(d), spoilt = hn::Zero(d);
  const auto look = [&](VecF32 v) HWY_ATTR {
    largest = hn::Max(largest, hn::Abs(v));
    spoilt = hn::MulAdd(v, hn::Zero(d), spoilt);
  };
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) look(hn::LoadU(d, x + i));
  if (i < count) look(load_part(x + i, static_cast<std::size_t>(count - i)));
  return hn::GetLane(hn::MaxOfLanes(d, largest)) + hn::GetLane(hn::SumOfLanes(d, spoilt));
}

// values[i] = round(x[i] inverse), ties to even, for 16 numbers (`count` of them in memory); returns their sum.
HWY_INLINE std::int32_t round_sixteen(const float* x, std::int64_t count, float inverse, std::int8_t* values) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const hn::Rebind<std::int8_t, F32> di8;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  auto sum = hn::Zero(di);
  for (std::int64_t i = 0; i < 16; i += lanes) {
    VecF32 v = hn::Zero(d);
    if (i + lanes <= count) {
      v = hn::LoadU(d, x + i);
    } else if (i < count) {
      v = load_part(x + i, static_cast<std::size_t>(count - i));
    }
    const auto whole = hn::NearestInt(hn::Mul(v, hn::Set(d, inverse)));
    sum = hn::Add(sum, whole);
    hn::StoreU(hn::DemoteTo(di8, whole), di8, values + i);
  }
  return hn::GetLane(hn::SumOfLanes(di, sum));
}

// One scale for `count` numbers, a multiple of 16 in the output (zeros beyond x).
void round_group(const float* x, std::int64_t count, float inverse, std::int64_t padded, std::int8_t* values,
                 std::int32_t* sums) {
  for (std::int64_t i = 0; i < padded; i += 16) {
    sums[i / 16] = round_sixteen(x + std::min(i, count), std::max<std::int64_t>(0, count - i), inverse, values + i);
  }
}

void quantize_row(ActivationFormat format, const float* x, std::int64_t columns, std::int64_t blocks,
                  std::int8_t* values, float* scales, std::int32_t* sums) {
  if (format == ActivationFormat::kQ8Block32) {
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t count = std::min<std::int64_t>(32, columns - 32 * b);
      const Q8Scale scale = q8_scale_block32(largest_magnitude(x + 32 * b, count));
      scales[b] = scale.scale;
      round_group(x + 32 * b, count, scale.inverse, 32, values + 32 * b, sums + 2 * b);
    }
    return;
  }
  const std::int64_t group = format == ActivationFormat::kQ8Block256 ? 256 : std::max<std::int64_t>(columns, 1);
  for (std::int64_t first = 0; first < columns; first += group) {
    const std::int64_t count = std::min(group, columns - first);
    const float largest = largest_magnitude(x + first, count);
    const Q8Scale scale = format == ActivationFormat::kQ8Block256 ? q8_scale_block256(largest) : q8_scale_row(largest);
    const std::int64_t padded = (count + 31) / 32 * 32;
    std::fill_n(scales + first / 32, padded / 32, scale.scale);
    round_group(x + first, count, scale.inverse, padded, values + first, sums + first / 16);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(quantize_row);

}  // namespace

QuantizedRows quantize_rows(ThreadPool& pool, ActivationFormat format, CodeZero zero, RowsIn x) {
  KRAIT_CHECK(format != ActivationFormat::kQ8Block256 || x.columns % 256 == 0, "{} columns are not whole blocks of 256",
              x.columns);
  thread_local AlignedBuffer buffer;
  QuantizedRows rows;
  rows.blocks = (x.columns + 31) / 32;
  rows.stride = 32 * rows.blocks;
  const auto value_bytes = static_cast<std::size_t>((x.rows * rows.stride + 63) / 64 * 64);
  const auto scale_bytes = static_cast<std::size_t>((x.rows * rows.blocks * 4 + 63) / 64 * 64);
  const std::size_t needed = value_bytes + 5 * scale_bytes + static_cast<std::size_t>(x.rows) * sizeof(std::int32_t);
  if (buffer.size() < needed) buffer = AlignedBuffer(needed);
  auto* values = reinterpret_cast<std::int8_t*>(buffer.data());
  auto* scales = reinterpret_cast<float*>(buffer.data() + value_bytes);
  auto* sums = reinterpret_cast<std::int32_t*>(buffer.data() + value_bytes + scale_bytes);
  auto* starts = reinterpret_cast<std::int32_t*>(buffer.data() + value_bytes + 3 * scale_bytes);
  auto* totals = reinterpret_cast<std::int32_t*>(buffer.data() + value_bytes + 5 * scale_bytes);
  pool.parallel_for(x.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(quantize_row)
      (format, x.row(r), x.columns, rows.blocks, values + r * rows.stride, scales + r * rows.blocks,
       sums + r * 2 * rows.blocks);
      const std::int32_t* row_sums = sums + r * 2 * rows.blocks;
      std::int32_t* row_starts = starts + r * 2 * rows.blocks;
      totals[r] = std::accumulate(row_sums, row_sums + 2 * rows.blocks, 0);
      for (std::int64_t i = 0; i < 2 * rows.blocks; i += 2) {
        row_starts[i] = -zero.zero * (row_sums[i] + (zero.sixteens ? 0 : row_sums[i + 1]));
        row_starts[i + 1] = -zero.zero * row_sums[i + 1];
      }
    }
  });
  rows.values = values;
  rows.scales = scales;
  rows.sums = sums;
  rows.totals = totals;
  rows.starts = starts;
  return rows;
}

}  // namespace krait::kernels
#endif
