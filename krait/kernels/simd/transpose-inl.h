// Transposed copies of small matrices that sit in cache.
#if defined(KRAIT_KERNELS_SIMD_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRANSPOSE_INL_H_
#undef KRAIT_KERNELS_SIMD_TRANSPOSE_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRANSPOSE_INL_H_
#endif

#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// to[c, r] = from[r, c]; strides in elements. Squares of four by four, which every target has shuffles for.
HWY_INLINE void transpose(const float* HWY_RESTRICT from, std::int64_t from_stride, std::int64_t rows,
                          std::int64_t columns, float* HWY_RESTRICT to, std::int64_t to_stride) {
  const hn::FixedTag<float, 4> d;
  const std::int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (std::int64_t r = 0; r < whole_rows; r += 4) {
    const float* row = from + r * from_stride;
    for (std::int64_t c = 0; c < whole_columns; c += 4) {
      const auto v0 = hn::LoadU(d, row + c), v1 = hn::LoadU(d, row + from_stride + c);
      const auto v2 = hn::LoadU(d, row + 2 * from_stride + c), v3 = hn::LoadU(d, row + 3 * from_stride + c);
      const auto low01 = hn::InterleaveLower(d, v0, v1), low23 = hn::InterleaveLower(d, v2, v3);
      const auto high01 = hn::InterleaveUpper(d, v0, v1), high23 = hn::InterleaveUpper(d, v2, v3);
      float* HWY_RESTRICT out = to + c * to_stride + r;
      hn::StoreU(hn::ConcatLowerLower(d, low23, low01), d, out);
      hn::StoreU(hn::ConcatUpperUpper(d, low23, low01), d, out + to_stride);
      hn::StoreU(hn::ConcatLowerLower(d, high23, high01), d, out + 2 * to_stride);
      hn::StoreU(hn::ConcatUpperUpper(d, high23, high01), d, out + 3 * to_stride);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t first = r < whole_rows ? whole_columns : 0;
    for (std::int64_t c = first; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
