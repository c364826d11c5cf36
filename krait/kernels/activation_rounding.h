// What the reference implementation of a weight format does to activations before a product. GGUF's block formats are
// multiplied with activations in blocks of int8, its 16-bit formats with activations in 16 bits; following that makes
// logits agree with other engines on the same file. The rounding alone, on f32 values; integer kernels come from it.
#pragma once

#include <cstdint>

#include "krait/core/dtype.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

enum class ActivationFormat : std::uint8_t {
  kF32,  // as they are
  kBF16,
  kF16,
  kQ8Block32,   // int8 in blocks of 32, scale max|x|/127 kept in f16     (beside Q8_0, Q4_0)
  kQ8Block256,  // int8 in blocks of 256, scale -x/127 of the x with the largest |x|, in f32   (beside Q4_K, Q5_K, Q6_K)
};

// The format that goes with weights of a dtype in a GGUF.
ActivationFormat activation_format_of(DType weights);

// y = x rounded to the format and back; y may be x. Columns must be whole blocks.
void round_activations(ThreadPool& pool, ActivationFormat format, RowsIn x, RowsOut y);

}  // namespace krait::kernels
