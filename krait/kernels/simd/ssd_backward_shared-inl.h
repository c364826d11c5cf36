// What heads of a group share in ssd_scan_backward: of each chunk the products of B and C before its heads are walked
// through, and dB and dC afterwards. Notation as in ssd_backward-inl.h.
#if defined(KRAIT_KERNELS_SIMD_SSD_BACKWARD_SHARED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SSD_BACKWARD_SHARED_INL_H_
#undef KRAIT_KERNELS_SIMD_SSD_BACKWARD_SHARED_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SSD_BACKWARD_SHARED_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/scan_ssd_backward_task.h"
#include "krait/kernels/simd/gemm-inl.h"
#include "krait/kernels/simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

HWY_INLINE std::int64_t whole_vectors(std::int64_t count) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  return (count + lanes - 1) / lanes * lanes;
}

// What the heads of a group share of a chunk, from its rows of B and C [rows, N].
void ssd_backward_matrices(RowsIn b, RowsIn c, std::int64_t states, std::int64_t q, const SsdChunkMatrices& to) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t rows = b.rows;
  for (std::int64_t n = 0; n < states; ++n) {
    std::fill(to.b + n * q + rows, to.b + n * q + whole_vectors(rows), 0.0F);
    std::fill(to.c + n * q + rows, to.c + n * q + whole_vectors(rows), 0.0F);
  }
  transpose(b.row(0), b.stride, rows, states, to.b, q);
  transpose(c.row(0), c.stride, rows, states, to.c, q);
  for_gemm_rows(rows, [&](auto block_rows, std::int64_t j) {
    constexpr std::int64_t kRows = decltype(block_rows)::value;
    const std::int64_t first = j / lanes * lanes;  // what lies below the diagonal is not needed
    for_gemm_columns(whole_vectors(rows) - first, [&](auto vectors, std::int64_t column) {
      constexpr std::int64_t kVectors = decltype(vectors)::value;
      const std::int64_t i = first + column;
      GemmBlock<kRows, kVectors> sum;
      sum.clear();
      sum.accumulate({.k = states, .a = b.row(j), .a_row = b.stride, .a_column = 1, .b = to.c + i, .ldb = q});
      for (std::int64_t r = 0; r < kRows; ++r) {
        for (std::int64_t v = 0; v < kVectors; ++v) {
          hn::StoreU(sum.v[r][v], F32(), to.bc + (j + r) * q + i + v * lanes);
        }
      }
    });
  });
}

// dB and dC of a chunk's rows: U and V of all heads of the group, and the products of d(C B^T) with B and C. `parts`
// are what the tasks of the group left, `stride` floats apart; they are added up in the first. `turned` is scratch [Q,
// Q].
void ssd_backward_shared(const SsdChunkMatrices& shared, float* first, std::int64_t parts, std::int64_t stride,
                         std::int64_t states, std::int64_t q, float* turned, RowsOut to_b, RowsOut to_c) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t rows = to_b.rows;
  for (std::int64_t i = 0; i < SsdChunkMatrices::floats(states, q); i += lanes) {
    VecF32 sum = hn::LoadU(d, first + i);
    for (std::int64_t part = 1; part < parts; ++part) sum = hn::Add(sum, hn::LoadU(d, first + part * stride + i));
    hn::StoreU(sum, d, first + i);
  }
  const SsdChunkMatrices to = SsdChunkMatrices::at(first, states, q);
  for (std::int64_t i = 0; i < rows; ++i) std::fill(turned + i * q + rows, turned + i * q + whole_vectors(rows), 0.0F);
  transpose(to.bc, q, rows, rows, turned, q);
  const auto add_product = [&](const float* left, const float* right, float* sums) {
    gemm_update(states, whole_vectors(rows), {.k = rows, .a = left, .a_row = q, .a_column = 1, .b = right, .ldb = q},
                1.0F, sums, q);
  };
  add_product(shared.b, to.bc, to.c);
  add_product(shared.c, turned, to.b);
  transpose(to.b, q, states, rows, to_b.row(0), to_b.stride);
  transpose(to.c, q, states, rows, to_c.row(0), to_c.stride);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
