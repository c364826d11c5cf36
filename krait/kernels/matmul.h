// Dense products with a weight matrix, the bulk of a forward pass.
//   y[M, N] = scale x[M, K] W[N, K]^T (+ bias[N])
// Weights in panels go through our own kernels (matmul_panels.h). Weights used in place, as a mapped file has them, are
// streamed for a few rows and go to oneDNN in tiles for many. Each tile runs on one thread of our pool and tiles do not
// depend on the number of threads, so neither does the result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "krait/core/dtype.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/activation_rounding.h"
#include "krait/kernels/panels.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

enum class WeightLayout : std::uint8_t {
  kRows,    // row-major [N, K] as checkpoints store it; data may be unaligned (a mapped file)
  kPanels,  // rearranged for the products (panels.h); data aligned to 64
};

// A weight matrix in memory.
struct WeightMatrix {
  DType dtype = DType::kF32;  // kF32, kBF16 or kF16: of rows
  std::int64_t rows = 0;      // N, outputs
  std::int64_t columns = 0;   // K, inputs
  const std::byte* data = nullptr;
  float scale = 1.0F;  // of the whole matrix; GGUF files may store one beside the weights
  // What x is rounded to before the product, where the file's format says so.
  ActivationFormat activations = ActivationFormat::kF32;
  WeightLayout layout = WeightLayout::kRows;
  PanelFormat panels = PanelFormat::kF32;  // of panels
};

// Bytes of the weights, scales and padding included.
std::uint64_t weight_memory(const WeightMatrix& weight);

// x [M, K], y [M, N], bias [N] or null. Products of f32 activations with weights widened to f32, accumulated in f32;
// low-bit panels multiply whole numbers instead, x rounded to `activations`. y must not overlap x.
void linear(ThreadPool& pool, RowsIn x, const WeightMatrix& weight, const float* bias, RowsOut y);

// Several products at once: y of each is linear() of rows [first_row, first_row + y.rows) of x with its weight, to the
// bit. Small matrices (the projections of one layer, a few experts) then share one loop over the threads, and x is
// rounded once. Weights have the columns of x; those that are not in panels of one format are multiplied one by one.
struct GroupedProduct {
  const WeightMatrix* weight = nullptr;
  const float* bias = nullptr;
  RowsOut y;
  std::int64_t first_row = 0;
};
void linear_group(ThreadPool& pool, RowsIn x, std::span<const GroupedProduct> products);

// y[i] = row ids[i] of the table, widened to f32. Ids must be in [0, rows): checked, InternalError.
void embed(ThreadPool& pool, const WeightMatrix& table, const std::int32_t* ids, RowsOut y);

// How the operands of a dense product C[M, N] = A[M, K] B[K, N] stand in memory, row-major, and what becomes of C.
struct GemmForm {
  bool a_transposed = false;  // A is stored [K, M]
  bool b_transposed = false;  // B is stored [N, K]
  bool add = false;           // C += A B
};

// General dense products on the calling thread alone, through oneDNN. Used by `linear`, by dense_product, by
// benchmarks of the machine's peak and by tests. ld*: elements from one stored row to the next.
void gemm_f32(GemmForm form, std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
              const float* b, std::int64_t ldb, float* c, std::int64_t ldc);
// bf16 inputs, f32 output. Throws UserError where oneDNN has no bf16 product for this CPU; ask gemm_bf16_available().
bool gemm_bf16_available();
void gemm_bf16(GemmForm form, std::int64_t m, std::int64_t n, std::int64_t k, const std::uint16_t* a, std::int64_t lda,
               const std::uint16_t* b, std::int64_t ldb, float* c, std::int64_t ldc);
// u8 x s8 -> s32.
void gemm_int8(GemmForm form, std::int64_t m, std::int64_t n, std::int64_t k, const std::uint8_t* a, std::int64_t lda,
               const std::int8_t* b, std::int64_t ldb, std::int32_t* c, std::int64_t ldc);

}  // namespace krait::kernels
