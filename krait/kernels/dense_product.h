// Dense products of activations, weights and their gradients, as training needs them: either operand transposed, the
// result written or added. With a weight W [N, K] as checkpoints store it:
//   forward   y  = x W^T     {.b_transposed = true}
//   backward  dx = dy W      {}
//             dW += dy^T x   {.a_transposed = true, .add = true}
// Products with a weight that stays as it is (inference) are `linear` (matmul.h), which has low-bit formats too.
//
// The product is cut into tiles by its shape alone, each a oneDNN product on one thread, so results do not depend on
// the number of threads. oneDNN accumulates in f32; the order of an element's sum depends on the tile's shape.
#pragma once

#include <cstdint>

#include "krait/core/thread_pool.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

enum class ProductPrecision : std::uint8_t {
  kF32,   // f32 throughout
  kBF16,  // both operands rounded to bf16 (to nearest), products accumulated in f32; C is f32
};

// C[M, N] = op(A) op(B), or C += op(A) op(B). `a` is [M, K], or [K, M] where form.a_transposed; `b` is [K, N], or
// [N, K] where form.b_transposed. Strides are at least the columns. C must not overlap the operands.
// K = 0 gives zeros (or leaves C as it is). kBF16 throws UserError where gemm_bf16_available() is false.
void dense_product(ThreadPool& pool, GemmForm form, RowsIn a, RowsIn b, RowsOut c,
                   ProductPrecision precision = ProductPrecision::kF32);

// Of a bias that was added to every row of y: dbias[N] += the sum over the rows of dy [M, N], any stride.
void bias_backward(ThreadPool& pool, RowsIn dy, float* dbias);

}  // namespace krait::kernels
