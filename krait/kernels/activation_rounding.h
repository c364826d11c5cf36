// What the reference implementation of a weight format does to activations before a product. GGUF's block formats are
// multiplied with activations in blocks of int8, its 16-bit formats with activations in 16 bits; following that makes
// logits agree with other engines on the same file. krait's own low-bit weights are multiplied with rows of int8.
// The rounding alone, on f32 values; quantized_rows.h has the integers for the integer kernels.
#pragma once

#include <cmath>
#include <cstdint>

#include "krait/core/dtype.h"
#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

enum class ActivationFormat : std::uint8_t {
  kF32,  // as they are
  kBF16,
  kF16,
  kQ8Row,       // int8, one scale max|x|/127 a row in f32                (beside krait's own int8 and int4)
  kQ8Block32,   // int8 in blocks of 32, scale max|x|/127 kept in f16     (beside Q8_0, Q4_0)
  kQ8Block256,  // int8 in blocks of 256, scale -x/127 of the x with the largest |x|, in f32   (beside Q4_K, Q5_K, Q6_K)
};

// An int8 x: round(x inverse), ties to even; its value is scale times that.
struct Q8Scale {
  float scale = 0.0F;
  float inverse = 0.0F;
};
inline Q8Scale q8_scale_row(float largest_magnitude) {
  const float scale = largest_magnitude / 127.0F;
  return {scale, scale != 0 ? 1.0F / scale : 0.0F};
}
inline Q8Scale q8_scale_block32(float largest_magnitude) {
  const Q8Scale exact = q8_scale_row(largest_magnitude);
  return {f16_to_f32(f32_to_f16(exact.scale)), exact.inverse};
}
// The signs of GGUF's scale and integers cancel.
inline Q8Scale q8_scale_block256(float largest_magnitude) {
  if (largest_magnitude == 0) return {};
  const float inverse = 127.0F / largest_magnitude;
  return {1.0F / inverse, inverse};
}

// The format that goes with weights of a dtype in a GGUF.
ActivationFormat activation_format_of(DType weights);

// y = x rounded to the format and back; y may be x. Columns must be whole blocks of 256 where the format has them; a
// last block of 32 may be shorter.
void round_activations(ThreadPool& pool, ActivationFormat format, RowsIn x, RowsOut y);

}  // namespace krait::kernels
