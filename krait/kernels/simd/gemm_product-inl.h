// Whole small f32 products C = A B or C += A B out of the register blocks of gemm-inl.h, operands in cache; with an
// operand or result that is triangular, what is known to be zero or not wanted is left out. And the transposes that
// bring a matrix into the shape of a B.
#if defined(KRAIT_KERNELS_SIMD_GEMM_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_GEMM_PRODUCT_INL_H_
#undef KRAIT_KERNELS_SIMD_GEMM_PRODUCT_INL_H_
#else
#define KRAIT_KERNELS_SIMD_GEMM_PRODUCT_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/simd/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

enum class GemmShape : std::uint8_t {
  kFull,
  kLowerA,  // A[i, k] = 0 where k lies after i
  kUpperA,  // … before i
  kLowerC,  // C[i, j] is wanted only where j does not lie after i; more of it may be written
};

struct GemmSize {
  std::int64_t rows, columns, k;  // columns: a multiple of the lanes
};

struct GemmRows {
  const float* data;
  std::int64_t stride;
};

// A, in any order.
struct GemmLeft {
  const float* data;
  std::int64_t row, column;  // strides

  GemmLeft(const float* from, std::int64_t stride) : data(from), row(stride), column(1) {}
  static GemmLeft transposed(const float* from, std::int64_t stride) {
    GemmLeft result(from, 1);
    result.column = stride;
    return result;
  }
};

struct GemmResult {
  float* data;
  std::int64_t stride;
};

// unit: so many rows and columns belong together, none of them lies before or after another.
template <bool kAdd>
static HWY_NOINLINE void gemm_product_blocks(const GemmSize& size, const GemmLeft& a, const GemmRows& b,
                                             const GemmResult& result, GemmShape shape, std::int64_t unit) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const F32 d;
  for_gemm_rows(size.rows, [&](auto block_rows, std::int64_t i) {
    constexpr std::int64_t kRows = decltype(block_rows)::value;
    const std::int64_t first = i / unit * unit, end = ((i + kRows - 1) / unit + 1) * unit;
    const std::int64_t k_first = shape == GemmShape::kUpperA ? first : 0;
    const std::int64_t k_end = shape == GemmShape::kLowerA ? std::min(size.k, end) : size.k;
    const std::int64_t columns =
        shape == GemmShape::kLowerC ? std::min(size.columns, (end + lanes - 1) / lanes * lanes) : size.columns;
    for_gemm_columns(columns, [&](auto vectors, std::int64_t j) {
      constexpr std::int64_t kVectors = decltype(vectors)::value;
      GemmBlock<kRows, kVectors> sum;
      float* const c = result.data + i * result.stride + j;
      if constexpr (kAdd) {
        for (std::int64_t r = 0; r < kRows; ++r) {
          for (std::int64_t v = 0; v < kVectors; ++v) sum.v[r][v] = hn::LoadU(d, c + r * result.stride + v * lanes);
        }
      } else {
        sum.clear();
      }
      sum.accumulate({.k = k_end - k_first,
                      .a = a.data + i * a.row + k_first * a.column,
                      .a_row = a.row,
                      .a_column = a.column,
                      .b = b.data + k_first * b.stride + j,
                      .ldb = b.stride});
      for (std::int64_t r = 0; r < kRows; ++r) {
        for (std::int64_t v = 0; v < kVectors; ++v) hn::StoreU(sum.v[r][v], d, c + r * result.stride + v * lanes);
      }
    });
  });
}

// C = A B
HWY_INLINE void gemm_product(const GemmSize& size, const GemmLeft& a, const GemmRows& b, const GemmResult& c,
                             GemmShape shape = GemmShape::kFull, std::int64_t unit = 1) {
  gemm_product_blocks<false>(size, a, b, c, shape, unit);
}

// C += A B
HWY_INLINE void gemm_product_add(const GemmSize& size, const GemmLeft& a, const GemmRows& b, const GemmResult& c,
                                 GemmShape shape = GemmShape::kFull, std::int64_t unit = 1) {
  gemm_product_blocks<true>(size, a, b, c, shape, unit);
}

// to [columns, rows] = from [rows, columns]^T, four by four.
static HWY_NOINLINE void gemm_transpose(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                                        float* to, std::int64_t to_stride) {
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> d64;
  const std::int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (std::int64_t i = 0; i < whole_rows; i += 4) {
    const float* const a = from + i * stride;
    for (std::int64_t j = 0; j < whole_columns; j += 4) {
      const auto r0 = hn::LoadU(d, a + j), r1 = hn::LoadU(d, a + stride + j), r2 = hn::LoadU(d, a + 2 * stride + j),
                 r3 = hn::LoadU(d, a + 3 * stride + j);
      const auto l01 = hn::BitCast(d64, hn::InterleaveLower(d, r0, r1));
      const auto l23 = hn::BitCast(d64, hn::InterleaveLower(d, r2, r3));
      const auto u01 = hn::BitCast(d64, hn::InterleaveUpper(d, r0, r1));
      const auto u23 = hn::BitCast(d64, hn::InterleaveUpper(d, r2, r3));
      float* const t = to + j * to_stride + i;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, l01, l23)), d, t);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, l01, l23)), d, t + to_stride);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, u01, u23)), d, t + 2 * to_stride);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, u01, u23)), d, t + 3 * to_stride);
    }
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      to[j * to_stride + i] = from[i * stride + j];
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
