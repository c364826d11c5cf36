// A small register-blocked f32 product for operands that already sit in cache:
//   C[M, N] = scale C + A[M, K] B[K, N]
// A is read one element at a time, so both of its strides are free (a transposed A costs nothing); rows of B and C
// are contiguous. Each element of C is one chain of multiply-adds over k in ascending order, whatever the block it
// falls in.
#if defined(KRAIT_KERNELS_SIMD_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_GEMM_INL_H_
#undef KRAIT_KERNELS_SIMD_GEMM_INL_H_
#else
#define KRAIT_KERNELS_SIMD_GEMM_INL_H_
#endif

#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Accumulators are kGemmRows x kGemmVectors registers; with AVX-512's 32 registers 6 x 4, else (16) 6 x 2.
inline constexpr std::int64_t kGemmRows = 6;
inline constexpr std::int64_t kGemmVectors = kLanes >= 16 ? 4 : 2;

struct GemmOperands {
  std::int64_t k;
  const float* a;
  std::int64_t a_row, a_column;  // strides of A
  const float* b;
  std::int64_t ldb;
  float* c;
  std::int64_t ldc;
  float scale;  // 0: C is only written
};

// kRows x kVectors vectors of C; with kWhole false the last vector has only `last` lanes.
template <std::int64_t kRows, std::int64_t kVectors, bool kWhole>
HWY_INLINE void gemm_block(const GemmOperands& g, std::int64_t row, std::int64_t column, std::size_t last) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  VecF32 sum[kRows][kVectors];
  float* c = g.c + row * g.ldc + column;
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t j = 0; j < kVectors; ++j) {
      if (g.scale == 0.0F) {
        sum[i][j] = hn::Zero(d);
      } else {
        const float* from = c + i * g.ldc + j * lanes;
        const VecF32 v = kWhole || j + 1 < kVectors ? hn::LoadU(d, from) : load_part(from, last);
        sum[i][j] = hn::Mul(v, hn::Set(d, g.scale));
      }
    }
  }
  const float* a = g.a + row * g.a_row;
  const float* b = g.b + column;
  for (std::int64_t k = 0; k < g.k; ++k) {
    VecF32 bv[kVectors];
    for (std::int64_t j = 0; j < kVectors; ++j) {
      bv[j] = kWhole || j + 1 < kVectors ? hn::LoadU(d, b + j * lanes) : load_part(b + j * lanes, last);
    }
    for (std::int64_t i = 0; i < kRows; ++i) {
      const VecF32 av = hn::Set(d, a[i * g.a_row]);
      for (std::int64_t j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(av, bv[j], sum[i][j]);
    }
    a += g.a_column;
    b += g.ldb;
  }
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t j = 0; j < kVectors; ++j) {
      float* to = c + i * g.ldc + j * lanes;
      if (kWhole || j + 1 < kVectors) {
        hn::StoreU(sum[i][j], d, to);
      } else {
        store_part(sum[i][j], to, last);
      }
    }
  }
}

template <std::int64_t kRows>
HWY_INLINE void gemm_rows(const GemmOperands& g, std::int64_t row, std::int64_t n) {
  const auto lanes = static_cast<std::int64_t>(kLanes);
  std::int64_t column = 0;
  for (; column + kGemmVectors * lanes <= n; column += kGemmVectors * lanes) {
    gemm_block<kRows, kGemmVectors, true>(g, row, column, kLanes);
  }
  for (; column + lanes <= n; column += lanes) gemm_block<kRows, 1, true>(g, row, column, kLanes);
  if (column < n) gemm_block<kRows, 1, false>(g, row, column, static_cast<std::size_t>(n - column));
}

inline void gemm_small(std::int64_t m, std::int64_t n, const GemmOperands& g) {
  std::int64_t row = 0;
  for (; row + kGemmRows <= m; row += kGemmRows) gemm_rows<kGemmRows>(g, row, n);
  for (; row + 2 <= m; row += 2) gemm_rows<2>(g, row, n);
  if (row < m) gemm_rows<1>(g, row, n);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
