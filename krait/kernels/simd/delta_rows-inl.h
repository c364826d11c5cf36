// All rows of one sequence and one value head of delta_scan, block of value columns by block.
#if defined(KRAIT_KERNELS_SIMD_DELTA_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_DELTA_ROWS_INL_H_
#undef KRAIT_KERNELS_SIMD_DELTA_ROWS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_DELTA_ROWS_INL_H_
#endif

#include "krait/kernels/scan_delta.h"
#include "krait/kernels/simd/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// kCount vectors of value columns from `at` on, or with kWhole false (one vector) the first `count` of them.
template <std::size_t kCount, bool kWhole>
HWY_INLINE void delta_columns(const DeltaScan& scan, const DeltaScanInputs& in, const SequenceRows& sequence,
                              std::int64_t head, std::int64_t at, std::size_t count, float* state, RowsOut o,
                              float* saved) {
  static_assert(kWhole || kCount == 1);
  const F32 d;
  const std::int64_t keys = scan.key_width, width = scan.value_width;
  const std::int64_t first_key = head / (scan.value_heads / scan.key_heads) * keys, first_value = head * width + at;
  VecF32 known[kCount];  // S^T k of the row at hand, S as the row before left it
  for (std::size_t j = 0; j < kCount; ++j) known[j] = hn::Zero(d);
  const float* k = in.k.row(sequence.first_row) + first_key;
  for (std::int64_t key = 0; key < keys; ++key) {
    const VecF32 by = hn::Set(d, k[key]);
    for (std::size_t j = 0; j < kCount; ++j) {
      const VecF32 s = load<kWhole>(state + key * width + at + static_cast<std::int64_t>(j * kLanes), count);
      known[j] = hn::MulAdd(s, by, known[j]);
    }
  }
  const std::int64_t end = sequence.first_row + sequence.rows;
  for (std::int64_t row = sequence.first_row; row < end; ++row) {
    if (saved != nullptr && (row - sequence.first_row) % scan.chunk == 0) {
      float* const to = saved + (row - sequence.first_row) / scan.chunk * scan.value_heads * keys * width;
      for (std::int64_t key = 0; key < keys; ++key) {
        for (std::size_t j = 0; j < kCount; ++j) {
          const std::int64_t column = key * width + at + static_cast<std::int64_t>(j * kLanes);
          store<kWhole>(load<kWhole>(state + column, count), to + column, count);
        }
      }
    }
    k = in.k.row(row) + first_key;
    const float* q = in.q.row(row) + first_key;
    // After the last row this gathers what nobody asks for.
    const float* next_k = in.k.row(row + 1 < end ? row + 1 : row) + first_key;
    const VecF32 decay = exp_f32(hn::Set(d, scan.a[head] * in.dt.row(row)[head])),
                 beta = hn::Set(d, in.beta.row(row)[head]);
    VecF32 u[kCount], sum[kCount], next[kCount];
    for (std::size_t j = 0; j < kCount; ++j) {
      const VecF32 v = load<kWhole>(in.v.row(row) + first_value + static_cast<std::int64_t>(j * kLanes), count);
      u[j] = hn::Mul(beta, hn::NegMulAdd(decay, known[j], v));
      sum[j] = next[j] = hn::Zero(d);
    }
    for (std::int64_t key = 0; key < keys; ++key) {
      const VecF32 add = hn::Set(d, k[key]), read = hn::Set(d, q[key]), by = hn::Set(d, next_k[key]);
      for (std::size_t j = 0; j < kCount; ++j) {
        float* const values = state + key * width + at + static_cast<std::int64_t>(j * kLanes);
        const VecF32 s = hn::MulAdd(u[j], add, hn::Mul(load<kWhole>(values, count), decay));
        store<kWhole>(s, values, count);
        sum[j] = hn::MulAdd(s, read, sum[j]);
        next[j] = hn::MulAdd(s, by, next[j]);
      }
    }
    for (std::size_t j = 0; j < kCount; ++j) {
      store<kWhole>(sum[j], o.row(row) + first_value + static_cast<std::int64_t>(j * kLanes), count);
      known[j] = next[j];
    }
  }
}

// state: of the head, [key, value]; saved: where its first chunk's goes, or null.
void delta_rows(const DeltaScan& scan, const DeltaScanInputs& in, const SequenceRows& sequence, std::int64_t head,
                float* state, RowsOut o, float* saved) {
  constexpr std::size_t kBlock = 4;  // vectors: with four registers for each, and a block of 128 keys in 32 KiB
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  constexpr auto kWidth = static_cast<std::int64_t>(kBlock) * lanes;
  const std::int64_t width = scan.value_width;
  std::int64_t at = 0;
  for (; at + kWidth <= width; at += kWidth) {
    delta_columns<kBlock, true>(scan, in, sequence, head, at, kLanes, state, o, saved);
  }
  for (; at + lanes <= width; at += lanes) {
    delta_columns<1, true>(scan, in, sequence, head, at, kLanes, state, o, saved);
  }
  if (at < width) {
    delta_columns<1, false>(scan, in, sequence, head, at, static_cast<std::size_t>(width - at), state, o, saved);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
