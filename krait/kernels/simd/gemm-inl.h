// The inner loop of small f32 products whose operands already sit in cache: a block of C = A[M, K] B[K, N] held in
// registers. A is read one element at a time, so both of its strides are free (a transposed A costs nothing); rows of
// B are whole vectors. What is done before, between and after with the block is the caller's business. Each element
// is one chain of multiply-adds over k in ascending order, whatever the block it falls in.
#if defined(KRAIT_KERNELS_SIMD_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_GEMM_INL_H_
#undef KRAIT_KERNELS_SIMD_GEMM_INL_H_
#else
#define KRAIT_KERNELS_SIMD_GEMM_INL_H_
#endif

#include "hwy/cache_control.h"
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Blocks are kGemmRows x kGemmVectors registers; with AVX-512's 32 registers 6 x 4, else (16) 6 x 2. Six rows of A
// and four vectors of B are ten loads for 24 multiply-adds: loads are not what limits it.
inline constexpr std::int64_t kGemmRows = 6;
inline constexpr std::int64_t kGemmVectors = kLanes >= 16 ? 4 : 2;

struct GemmOperands {
  std::int64_t k;
  const float* a;
  std::int64_t a_row, a_column;  // strides of A
  const float* b;
  std::int64_t ldb;
};

template <std::int64_t kRows, std::int64_t kVectors>
struct GemmBlock {
  VecF32 v[kRows][kVectors];

  HWY_INLINE void clear() {
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t j = 0; j < kVectors; ++j) v[i][j] = hn::Zero(F32());
    }
  }

  HWY_INLINE void load(const float* c, std::int64_t ldc) {
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t j = 0; j < kVectors; ++j) {
        v[i][j] = hn::LoadU(F32(), c + i * ldc + j * static_cast<std::int64_t>(kLanes));
      }
    }
  }
  HWY_INLINE void store(float* c, std::int64_t ldc) const {
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t j = 0; j < kVectors; ++j) {
        hn::StoreU(v[i][j], F32(), c + i * ldc + j * static_cast<std::int64_t>(kLanes));
      }
    }
  }

  HWY_INLINE void accumulate(const GemmOperands& g) {
    accumulate<WeightF32>(g, reinterpret_cast<const std::byte*>(g.b));
  }

  // B as stored elements, widened when loaded; g.b is not read, g.ldb counts elements. With kFetch the bytes at `next`
  // that stand as these do in B are fetched into the cache meanwhile.
  template <class Stored, bool kFetch = false>
  HWY_INLINE void accumulate(const GemmOperands& g, const std::byte* HWY_RESTRICT b, const std::byte* next = nullptr) {
    const F32 d;
    constexpr auto kBytes = static_cast<std::int64_t>(Stored::kBytes);
    const float* HWY_RESTRICT a = g.a;
    for (std::int64_t k = 0; k < g.k; ++k, a += g.a_column, b += g.ldb * kBytes) {
      if constexpr (kFetch) {
        for (std::int64_t line = 0; line < kVectors * static_cast<std::int64_t>(kLanes) * kBytes; line += 64) {
          hwy::Prefetch(next + line);
        }
        next += g.ldb * kBytes;
      }
      VecF32 bv[kVectors];
      for (std::int64_t j = 0; j < kVectors; ++j) {
        bv[j] = Stored::load(b + j * static_cast<std::int64_t>(kLanes) * kBytes);
      }
      for (std::int64_t i = 0; i < kRows; ++i) {
        const VecF32 av = hn::Set(d, a[i * g.a_row]);
        for (std::int64_t j = 0; j < kVectors; ++j) v[i][j] = hn::MulAdd(av, bv[j], v[i][j]);
      }
    }
  }
};

// Calls body(rows, row) for blocks of rows that cover [0, count), `rows` a std::integral_constant.
template <class Body>
HWY_INLINE void for_gemm_rows(std::int64_t count, Body&& body) {
  std::int64_t row = 0;
  for (; row + kGemmRows <= count; row += kGemmRows) body(std::integral_constant<std::int64_t, kGemmRows>(), row);
  if (row + 4 <= count) {
    body(std::integral_constant<std::int64_t, 4>(), row);
    row += 4;
  }
  if (row + 2 <= count) {
    body(std::integral_constant<std::int64_t, 2>(), row);
    row += 2;
  }
  if (row < count) body(std::integral_constant<std::int64_t, 1>(), row);
}

// Calls body(vectors, column) for blocks of whole vectors that cover `count` columns, a multiple of the lanes.
template <class Body>
HWY_INLINE void for_gemm_columns(std::int64_t count, Body&& body) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  std::int64_t column = 0;
  for (; column + kGemmVectors * lanes <= count; column += kGemmVectors * lanes) {
    body(std::integral_constant<std::int64_t, kGemmVectors>(), column);
  }
  for (; column < count; column += lanes) body(std::integral_constant<std::int64_t, 1>(), column);
}

// C = scale C + A B, of `rows` rows and `columns` columns, whole vectors; ldc is the stride of C.
inline HWY_NOINLINE void gemm_update(std::int64_t rows, std::int64_t columns, const GemmOperands& g, float scale,
                                     float* c, std::int64_t ldc) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  for_gemm_rows(rows, [&](auto block_rows, std::int64_t row) {
    for_gemm_columns(columns, [&](auto vectors, std::int64_t column) {
      constexpr std::int64_t kRows = decltype(block_rows)::value, kVectors = decltype(vectors)::value;
      float* to = c + row * ldc + column;
      GemmBlock<kRows, kVectors> sum;
      for (std::int64_t r = 0; r < kRows; ++r) {
        for (std::int64_t v = 0; v < kVectors; ++v) {
          sum.v[r][v] = hn::Mul(hn::Set(d, scale), hn::LoadU(d, to + r * ldc + v * lanes));
        }
      }
      sum.accumulate({.k = g.k,
                      .a = g.a + row * g.a_row,
                      .a_row = g.a_row,
                      .a_column = g.a_column,
                      .b = g.b + column,
                      .ldb = g.ldb});
      for (std::int64_t r = 0; r < kRows; ++r) {
        for (std::int64_t v = 0; v < kVectors; ++v) hn::StoreU(sum.v[r][v], d, to + r * ldc + v * lanes);
      }
    });
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
