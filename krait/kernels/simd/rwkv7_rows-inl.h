// All rows of one sequence and one head of rwkv7_scan, block of value columns by block.
#if defined(KRAIT_KERNELS_SIMD_RWKV7_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_RWKV7_ROWS_INL_H_
#undef KRAIT_KERNELS_SIMD_RWKV7_ROWS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_RWKV7_ROWS_INL_H_
#endif

#include "krait/kernels/scan_rwkv7.h"
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// kCount vectors of value columns from `at` on, or with kWhole false (one vector) the first `count` of them.
template <std::size_t kCount, bool kWhole>
HWY_INLINE void rwkv7_columns(const Rwkv7ScanInputs& in, const SequenceRows& sequence, std::int64_t first_column,
                              std::int64_t width, std::int64_t at, std::size_t count, float* state, RowsOut y) {
  static_assert(kWhole || kCount == 1);
  const F32 d;
  VecF32 removed[kCount];  // S kappa of the row at hand
  for (std::size_t j = 0; j < kCount; ++j) removed[j] = hn::Zero(d);
  const float* kappa = in.kappa.row(sequence.first_row) + first_column;
  for (std::int64_t key = 0; key < width; ++key) {
    const VecF32 by = hn::Set(d, kappa[key]);
    for (std::size_t j = 0; j < kCount; ++j) {
      const VecF32 s = load<kWhole>(state + key * width + at + static_cast<std::int64_t>(j * kLanes), count);
      removed[j] = hn::MulAdd(s, by, removed[j]);
    }
  }
  const std::int64_t end = sequence.first_row + sequence.rows;
  for (std::int64_t row = sequence.first_row; row < end; ++row) {
    const float* r = in.r.row(row) + first_column;
    const float* w = in.w.row(row) + first_column;
    const float* k = in.k.row(row) + first_column;
    const float* b = in.b.row(row) + first_column;
    // After the last row this gathers what nobody asks for.
    kappa = in.kappa.row(row + 1 < end ? row + 1 : row) + first_column;
    VecF32 v[kCount], sum[kCount], next[kCount];
    for (std::size_t j = 0; j < kCount; ++j) {
      v[j] = load<kWhole>(in.v.row(row) + first_column + at + static_cast<std::int64_t>(j * kLanes), count);
      sum[j] = next[j] = hn::Zero(d);
    }
    for (std::int64_t key = 0; key < width; ++key) {
      const VecF32 decay = hn::Set(d, w[key]), add = hn::Set(d, k[key]), replace = hn::Set(d, b[key]);
      const VecF32 read = hn::Set(d, r[key]), by = hn::Set(d, kappa[key]);
      for (std::size_t j = 0; j < kCount; ++j) {
        float* const values = state + key * width + at + static_cast<std::int64_t>(j * kLanes);
        VecF32 s = hn::Mul(load<kWhole>(values, count), decay);
        s = hn::NegMulAdd(removed[j], replace, s);
        s = hn::MulAdd(v[j], add, s);
        store<kWhole>(s, values, count);
        sum[j] = hn::MulAdd(s, read, sum[j]);
        next[j] = hn::MulAdd(s, by, next[j]);
      }
    }
    for (std::size_t j = 0; j < kCount; ++j) {
      store<kWhole>(sum[j], y.row(row) + first_column + at + static_cast<std::int64_t>(j * kLanes), count);
      removed[j] = next[j];
    }
  }
}

// state: of the head, [key, value].
void rwkv7_rows(const Rwkv7Scan& scan, const Rwkv7ScanInputs& in, const SequenceRows& sequence, std::int64_t head,
                float* state, RowsOut y) {
  constexpr std::size_t kBlock = 4;  // vectors: a head of 64 on AVX-512, with four registers for each
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  constexpr auto kWidth = static_cast<std::int64_t>(kBlock) * lanes;
  const std::int64_t width = scan.head_width, first = head * width;
  std::int64_t at = 0;
  for (; at + kWidth <= width; at += kWidth) {
    rwkv7_columns<kBlock, true>(in, sequence, first, width, at, kLanes, state, y);
  }
  for (; at + lanes <= width; at += lanes) {
    rwkv7_columns<1, true>(in, sequence, first, width, at, kLanes, state, y);
  }
  if (at < width) {
    rwkv7_columns<1, false>(in, sequence, first, width, at, static_cast<std::size_t>(width - at), state, y);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
