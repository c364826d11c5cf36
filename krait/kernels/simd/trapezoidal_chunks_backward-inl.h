// The matrix products of one head and chunk of trapezoidal_scan_backward. Index m runs over the rows t of a chunk and,
// within each, over R. As in trapezoidal_chunks-inl.h,
// but c_t of a chunk's last row has the beta of the row behind it, if there is one: then a chunk begins from what was
// saved and nothing is pending but the first state's k and x. With A = Q K^T, F_tt' = exp(cum_t - cum_t') and
// W = A o F o c, gamma in the place of c for t' = t:
//   Y = exp(cum) o (Q S) + W V,   S' = exp(cum_T) S + K^T (e o V),   e_t = c_t exp(cum_T - cum_t)
// and with G = dY, D = dS', dW = G V^T where W is not zero:
//   dV = W^T G + e o (K D) + (that of D v),   dA = dW o F o c
//   dQ = (exp(cum) o G) S^T + dA K,   dK = (e o V) D^T + dA^T Q
//   dS = exp(cum_T) D + Q^T (exp(cum) o G)
#if defined(KRAIT_KERNELS_SIMD_TRAPEZOIDAL_CHUNKS_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_CHUNKS_BACKWARD_INL_H_
#undef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_CHUNKS_BACKWARD_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRAPEZOIDAL_CHUNKS_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "krait/kernels/scan_trapezoidal_backward_task.h"
#include "krait/kernels/simd/gemm_product-inl.h"
#include "krait/kernels/simd/trapezoidal_rotation-inl.h"
#include "krait/kernels/simd/trapezoidal_sizes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Scratch of one task, carved from one allocation. Where they are columns, M, N and P are padded to whole vectors.
struct TrapezoidalBackwardScratch {
  double *d_cum, *d_carry;          // [T]: of cum_t and of c_t
  double* d_gamma;                  // [T]: of the gamma_t on the diagonal of W
  TrapezoidalSizes sizes;           // [T]
  float *theta, *d_theta;           // [angles]: d_theta the sum over all rows from the one at hand on
  float *cosines, *sines;           // [T, angles]
  float *factor, *weight;           // [T, M]: F and F o c
  float *q, *k, *dq, *dk;           // [M, N]
  float* k_t;                       // [N, M]
  float *value, *raw, *g, *from_g;  // [M, P]: v, S^T q, G, exp(cum) o G
  float *qs, *kd, *dv;              // [M, P]: Q S, K D
  float* value_t;                   // [P, M]
  float *a, *w, *da;                // [M, M]: A o F, W, dA
  float* both;                      // [M]: dW o A o F of a row
  float *s, *ds;                    // [N, P]
  float *s_t, *ds_t;                // [P, N]
  float* sums;                      // [TrapezoidalParameterColumns] of a chunk
  std::int64_t m, n, p, angles;     // padded
  std::int64_t floats;              // of all

  TrapezoidalRotation rotation(std::int64_t t) const { return {cosines + t * angles, sines + t * angles}; }
};

// ds and d_theta are those of the first of `heads`, the others behind them. from: null to learn how much there has to
// be.
HWY_INLINE TrapezoidalBackwardScratch carve_trapezoidal_backward_scratch(const TrapezoidalScan& scan,
                                                                         std::int64_t heads, float* from) {
  TrapezoidalBackwardScratch s{};
  const auto take = [&](std::int64_t count) {
    const std::int64_t at = std::exchange(s.floats, s.floats + trapezoidal_padded(count));
    return from == nullptr ? nullptr : from + at;
  };
  const std::int64_t rows = scan.chunk_rows(), states = scan.states, width = scan.head_width;
  s.m = trapezoidal_padded(rows * scan.rank);
  s.n = trapezoidal_padded(states);
  s.p = trapezoidal_padded(width);
  s.angles = trapezoidal_padded(scan.angles);
  for (double** piece : {&s.d_cum, &s.d_carry, &s.d_gamma}) *piece = reinterpret_cast<double*>(take(2 * rows));
  for (float** piece : s.sizes.all()) *piece = take(rows);
  s.theta = take(s.angles);
  s.d_theta = take(heads * s.angles);
  for (float** piece : {&s.cosines, &s.sines}) *piece = take(rows * s.angles);
  for (float** piece : {&s.factor, &s.weight}) *piece = take(rows * s.m);
  for (float** piece : {&s.q, &s.k, &s.dq, &s.dk}) *piece = take(s.m * s.n);
  s.k_t = take(states * s.m);
  for (float** piece : {&s.value, &s.raw, &s.g, &s.from_g, &s.qs, &s.kd, &s.dv}) *piece = take(s.m * s.p);
  s.value_t = take(width * s.m);
  for (float** piece : {&s.a, &s.w, &s.da}) *piece = take(s.m * s.m);
  s.both = take(s.m);
  s.s = take(states * s.p);
  s.ds = take(heads * states * s.p);
  for (float** piece : {&s.s_t, &s.ds_t}) *piece = take(width * s.n);
  s.sums = take(TrapezoidalParameterColumns(scan).count);
  return s;
}

std::int64_t trapezoidal_backward_scratch(const TrapezoidalScan& scan, std::int64_t heads) {
  return carve_trapezoidal_backward_scratch(scan, heads, nullptr).floats;
}

// F and F o c of a chunk's rows, each entry for all R columns of its row.
HWY_NOINLINE void trapezoidal_factors(const TrapezoidalScan& scan, std::int64_t rows,
                                      const TrapezoidalBackwardScratch& s) {
  const F32 d;
  const std::int64_t rank = scan.rank;
  for (std::int64_t t = 0; t < rows; ++t) {
    float* const factor = s.factor + t * s.m;
    float* const weight = s.weight + t * s.m;
    const VecF32 high = hn::Set(d, s.sizes.high[t]), low = hn::Set(d, s.sizes.low[t]);
    for_vectors(t + 1, [&](auto whole, std::int64_t i, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 power[1] = {hn::Add(hn::Sub(high, load<kWhole>(s.sizes.high + i, part)),
                                 hn::Sub(low, load<kWhole>(s.sizes.low + i, part)))};
      exp2_f32(power);
      store<kWhole>(power[0], factor + i, part);
      store<kWhole>(hn::Mul(power[0], load<kWhole>(s.sizes.carry + i, part)), weight + i, part);
    });
    weight[t] = s.sizes.gamma[t];
    // From the back, so that nothing is overwritten before it is read.
    for (std::int64_t i = t; rank > 1 && i >= 0; --i) {
      std::fill_n(factor + i * rank, rank, factor[i]);
      std::fill_n(weight + i * rank, rank, weight[i]);
    }
  }
}

// q, k, v and what they are turned by, of all m. theta comes as it was before the chunk.
HWY_NOINLINE void trapezoidal_chunk_rows(const TrapezoidalBackwardTask& task, std::int64_t head, std::int64_t first,
                                         std::int64_t rows, const TrapezoidalBackwardScratch& s) {
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalColumns columns(scan);
  const std::int64_t rank = scan.rank, states = scan.states, width = scan.head_width;
  const float* mix = scan.value_mix == nullptr ? nullptr : scan.value_mix + head * rank * width;
  for (std::int64_t t = 0; t < rows; ++t) {
    const float* row = task.prepared.row(first + t);
    trapezoidal_turn(scan, row + columns.turn, row[columns.dt + head], s.theta, s.rotation(t));
    const float* x = task.in->x.row(first + t) + head * width;
    for (std::int64_t r = 0; r < rank; ++r) {
      const std::int64_t m = t * rank + r;
      const std::int64_t shared = (r * scan.groups + task.group()) * states, own = (head * rank + r) * states;
      trapezoidal_rotate(scan, row + columns.c + shared, scan.c_bias + own, s.rotation(t), s.q + m * s.n);
      trapezoidal_rotate(scan, row + columns.b + shared, scan.b_bias + own, s.rotation(t), s.k + m * s.n);
      for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
        constexpr bool kWhole = decltype(whole)::value;
        VecF32 v = load<kWhole>(x + p, part);
        if (mix != nullptr) v = hn::Mul(v, load<kWhole>(mix + r * width + p, part));
        store<kWhole>(v, s.value + m * s.p + p, part);
      });
    }
  }
  gemm_transpose(s.k, s.n, rows * rank, states, s.k_t, s.m);
  gemm_transpose(s.value, s.p, rows * rank, width, s.value_t, s.m);
}

// to = left o right up to the columns of row t, zero after.
HWY_INLINE void multiply_masked(const float* left, const float* right, std::int64_t count, std::int64_t all,
                                float* to) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    store<kWhole>(hn::Mul(load<kWhole>(left + i, part), load<kWhole>(right + i, part)), to + i, part);
  });
  std::fill(to + count, to + all, 0.0F);
}

// A o F, W, Q S and S^T q of all m.
HWY_NOINLINE void trapezoidal_chunk_forward(const TrapezoidalScan& scan, std::int64_t count,
                                            const TrapezoidalBackwardScratch& s) {
  const F32 d;
  const std::int64_t rank = scan.rank;
  gemm_product({count, s.m, scan.states}, {s.q, s.n}, {s.k_t, s.m}, {s.a, s.m}, GemmShape::kLowerC, rank);
  for (std::int64_t m = 0; m < count; ++m) {
    const std::int64_t t = m / rank, end = (t + 1) * rank;
    float* const a = s.a + m * s.m;
    multiply_masked(a, s.weight + t * s.m, end, s.m, s.w + m * s.m);
    multiply_masked(a, s.factor + t * s.m, end, s.m, a);
  }
  gemm_product({count, s.p, scan.states}, {s.q, s.n}, {s.s, s.p}, {s.qs, s.p});
  gemm_product({count, s.p, count}, {s.w, s.m}, {s.value, s.p}, {s.raw, s.p}, GemmShape::kLowerA, rank);
  for (std::int64_t m = 0; m < count; ++m) {
    const VecF32 decay = hn::Set(d, s.sizes.from_start[m / rank]);
    float* const raw = s.raw + m * s.p;
    for (std::int64_t p = 0; p < s.p; p += static_cast<std::int64_t>(kLanes)) {
      hn::StoreU(hn::MulAdd(decay, hn::LoadU(d, s.qs + m * s.p + p), hn::LoadU(d, raw + p)), d, raw + p);
    }
  }
}

// dA, dV, and what F, c, e and exp(cum) have in d_cum and d_carry.
HWY_NOINLINE void trapezoidal_chunk_values_backward(const TrapezoidalScan& scan, std::int64_t head, std::int64_t rows,
                                                    const TrapezoidalBackwardScratch& s) {
  const F32 d;
  const std::int64_t rank = scan.rank, count = rows * rank;
  gemm_product({count, s.m, scan.head_width}, {s.g, s.p}, {s.value_t, s.m}, {s.da, s.m}, GemmShape::kLowerC, rank);
  gemm_product({count, s.p, scan.states}, {s.k, s.n}, {s.ds, s.p}, {s.kd, s.p});
  gemm_product({count, s.p, count}, GemmLeft::transposed(s.w, s.m), {s.g, s.p}, {s.dv, s.p}, GemmShape::kUpperA, rank);
  const float* const last = s.factor + (rows - 1) * s.m;
  for (std::int64_t m = 0; m < count; ++m) {
    const std::int64_t t = m / rank, end = (t + 1) * rank;
    float* const da = s.da + m * s.m;
    multiply_masked(da, s.a + m * s.m, end, s.m, s.both);
    multiply_masked(da, s.weight + t * s.m, end, s.m, da);
    // What comes in at t must leave at the row before it without a rest, or every row before that is left with it: in
    // double.
    double sum = 0.0;
    for (std::int64_t i = 0; i < t; ++i) {
      double of_row = 0.0;
      for (std::int64_t r = 0; r < rank; ++r) of_row += s.both[i * rank + r];
      s.d_carry[i] += of_row;
      s.d_cum[i] -= of_row * s.sizes.carry[i];
      sum += of_row * s.sizes.carry[i];
    }
    s.d_cum[t] += sum;
    for (std::int64_t r = 0; r < rank; ++r) s.d_gamma[t] += s.both[t * rank + r];
    const float* const g = s.g + m * s.p;
    const float* const kd = s.kd + m * s.p;
    float* const value = s.value + m * s.p;
    const double ended = dot_padded(kd, value, s.p);
    s.d_carry[t] += ended * last[t * rank];
    s.d_cum[rows - 1] += ended * s.sizes.to_end[t];
    s.d_cum[t] -= ended * s.sizes.to_end[t];
    scale_padded(g, s.sizes.from_start[t], s.p, s.from_g + m * s.p);
    s.d_cum[t] += dot_padded(s.from_g + m * s.p, s.qs + m * s.p, s.p);
    const VecF32 end_of = hn::Set(d, s.sizes.to_end[t]), skip = hn::Set(d, scan.d[head]);
    float* const dv = s.dv + m * s.p;
    for (std::int64_t p = 0; p < s.p; p += static_cast<std::int64_t>(kLanes)) {
      const VecF32 direct = hn::MulAdd(skip, hn::LoadU(d, g + p), hn::LoadU(d, dv + p));
      hn::StoreU(hn::MulAdd(end_of, hn::LoadU(d, kd + p), direct), d, dv + p);
    }
  }
}

// dQ, dK, and D becomes dS.
HWY_NOINLINE void trapezoidal_chunk_keys_backward(const TrapezoidalScan& scan, std::int64_t rows, float carried,
                                                  const TrapezoidalBackwardScratch& s) {
  const std::int64_t rank = scan.rank, count = rows * rank, states = scan.states, width = scan.head_width;
  gemm_transpose(s.s, s.p, states, width, s.s_t, s.n);
  gemm_transpose(s.ds, s.p, states, width, s.ds_t, s.n);
  const GemmSize from_values = {count, s.n, width}, from_rows = {count, s.n, count};
  gemm_product(from_values, {s.from_g, s.p}, {s.s_t, s.n}, {s.dq, s.n});
  // raw is done with.
  for (std::int64_t m = 0; m < count; ++m) {
    scale_padded(s.value + m * s.p, s.sizes.to_end[m / rank], s.p, s.raw + m * s.p);
  }
  gemm_product(from_values, {s.raw, s.p}, {s.ds_t, s.n}, {s.dk, s.n});
  gemm_product_add(from_rows, {s.da, s.m}, {s.k, s.n}, {s.dq, s.n}, GemmShape::kLowerA, rank);
  gemm_product_add(from_rows, GemmLeft::transposed(s.da, s.m), {s.q, s.n}, {s.dk, s.n}, GemmShape::kUpperA, rank);
  s.d_cum[rows - 1] += double{carried} * dot_padded(s.s, s.ds, states * s.p);
  scale_padded(s.ds, carried, states * s.p, s.ds);
  gemm_product_add({states, s.p, count}, GemmLeft::transposed(s.q, s.n), {s.from_g, s.p}, {s.ds, s.p});
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
