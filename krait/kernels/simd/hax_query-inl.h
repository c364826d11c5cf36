// What HAX does with one query, in inference and in training: its bucket, and the softmax of what it reads.
#if defined(KRAIT_KERNELS_SIMD_HAX_QUERY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_HAX_QUERY_INL_H_
#undef KRAIT_KERNELS_SIMD_HAX_QUERY_INL_H_
#else
#define KRAIT_KERNELS_SIMD_HAX_QUERY_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/hax_attention.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// y [columns] = x [rows] M [rows, columns]: sums run over rows, one after the other, in each lane by itself.
HWY_INLINE void row_times_matrix(const float* x, const float* matrix, std::int64_t rows, std::int64_t columns,
                                 float* y) {
  for_vectors(columns, [&](auto whole, std::int64_t at, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    VecF32 sum = hn::Zero(F32());
    for (std::int64_t i = 0; i < rows; ++i) {
      sum = hn::MulAdd(hn::Set(F32(), x[i]), load<kWhole>(matrix + i * columns + at, part), sum);
    }
    store<kWhole>(sum, y + at, part);
  });
}

HWY_INLINE std::int32_t hax_bucket(const HaxAttention& hax, const float* centred) {
  float projected[HaxAttention::kMostHashes];
  row_times_matrix(centred, hax.hash_projection, hax.key_width, hax.hashes, projected);
  std::int32_t bucket = 0;
  for (std::int64_t i = 0; i < hax.hashes; ++i) bucket |= (projected[i] > 0.0F ? 1 : 0) << i;
  return bucket;
}

HWY_INLINE void softmax(float* values, std::int64_t count) {
  const VecF32 top = hn::Set(F32(), *std::max_element(values, values + count));
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    store<kWhole>(exp_f32(hn::Sub(load<kWhole>(values + i, part), top)), values + i, part);
  });
  float sum = 0.0F;
  for (std::int64_t i = 0; i < count; ++i) sum += values[i];
  for (std::int64_t i = 0; i < count; ++i) values[i] /= sum;
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
