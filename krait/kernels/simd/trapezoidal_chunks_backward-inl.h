// The scan itself of trapezoidal_scan_backward: some heads of a group, sequence by sequence, chunk by chunk from the
// last to the first. Index m runs over the rows t of a chunk and, within each, over R. As in trapezoidal_chunks-inl.h,
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

#include "krait/kernels/saved_chunks.h"
#include "krait/kernels/simd/gemm_product-inl.h"
#include "krait/kernels/simd/trapezoidal_rows_backward-inl.h"
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
  gemm_product({.rows = count,
                .columns = s.m,
                .k = scan.states,
                .a = s.q,
                .a_row = s.n,
                .a_column = 1,
                .b = s.k_t,
                .ldb = s.m,
                .c = s.a,
                .ldc = s.m,
                .shape = GemmShape::kLowerC,
                .unit = rank});
  for (std::int64_t m = 0; m < count; ++m) {
    const std::int64_t t = m / rank, end = (t + 1) * rank;
    float* const a = s.a + m * s.m;
    multiply_masked(a, s.weight + t * s.m, end, s.m, s.w + m * s.m);
    multiply_masked(a, s.factor + t * s.m, end, s.m, a);
  }
  gemm_product({.rows = count,
                .columns = s.p,
                .k = scan.states,
                .a = s.q,
                .a_row = s.n,
                .a_column = 1,
                .b = s.s,
                .ldb = s.p,
                .c = s.qs,
                .ldc = s.p});
  gemm_product({.rows = count,
                .columns = s.p,
                .k = count,
                .a = s.w,
                .a_row = s.m,
                .a_column = 1,
                .b = s.value,
                .ldb = s.p,
                .c = s.raw,
                .ldc = s.p,
                .shape = GemmShape::kLowerA,
                .unit = rank});
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
  gemm_product({.rows = count,
                .columns = s.m,
                .k = scan.head_width,
                .a = s.g,
                .a_row = s.p,
                .a_column = 1,
                .b = s.value_t,
                .ldb = s.m,
                .c = s.da,
                .ldc = s.m,
                .shape = GemmShape::kLowerC,
                .unit = rank});
  gemm_product({.rows = count,
                .columns = s.p,
                .k = scan.states,
                .a = s.k,
                .a_row = s.n,
                .a_column = 1,
                .b = s.ds,
                .ldb = s.p,
                .c = s.kd,
                .ldc = s.p});
  gemm_product({.rows = count,
                .columns = s.p,
                .k = count,
                .a = s.w,
                .a_row = 1,
                .a_column = s.m,
                .b = s.g,
                .ldb = s.p,
                .c = s.dv,
                .ldc = s.p,
                .shape = GemmShape::kUpperA,
                .unit = rank});
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
  GemmProduct product{.rows = count,
                      .columns = s.n,
                      .k = width,
                      .a = s.from_g,
                      .a_row = s.p,
                      .a_column = 1,
                      .b = s.s_t,
                      .ldb = s.n,
                      .c = s.dq,
                      .ldc = s.n};
  gemm_product(product);
  // raw is done with.
  for (std::int64_t m = 0; m < count; ++m) {
    scale_padded(s.value + m * s.p, s.sizes.to_end[m / rank], s.p, s.raw + m * s.p);
  }
  product.a = s.raw;
  product.b = s.ds_t;
  product.c = s.dk;
  gemm_product(product);
  product = {.rows = count,
             .columns = s.n,
             .k = count,
             .a = s.da,
             .a_row = s.m,
             .a_column = 1,
             .b = s.k,
             .ldb = s.n,
             .c = s.dq,
             .ldc = s.n,
             .add = true,
             .shape = GemmShape::kLowerA,
             .unit = rank};
  gemm_product(product);
  product.a_row = 1;
  product.a_column = s.m;
  product.b = s.q;
  product.c = s.dk;
  product.shape = GemmShape::kUpperA;
  gemm_product(product);
  s.d_cum[rows - 1] += double{carried} * dot_padded(s.s, s.ds, states * s.p);
  scale_padded(s.ds, carried, states * s.p, s.ds);
  gemm_product({.rows = states,
                .columns = s.p,
                .k = count,
                .a = s.q,
                .a_row = 1,
                .a_column = s.n,
                .b = s.from_g,
                .ldb = s.p,
                .c = s.ds,
                .ldc = s.p,
                .add = true});
}

// to[i] += from[i], or = where nothing is there yet.
HWY_INLINE void add_or_write(const float* from, std::int64_t count, bool write, float* to) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    VecF32 v = load<kWhole>(from + i, part);
    if (!write) v = hn::Add(v, load<kWhole>(to + i, part));
    store<kWhole>(v, to + i, part);
  });
}

// x and the sizes of a chunk's rows, and of k and q what heads share; from the last row to the first. end_row: of the
// sequence.
HWY_NOINLINE void trapezoidal_chunk_inputs_backward(const TrapezoidalBackwardTask& task, std::int64_t head,
                                                    std::int64_t first, std::int64_t rows, std::int64_t end_row,
                                                    const TrapezoidalBackwardScratch& s) {
  const F32 d;
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalColumns columns(scan);
  const TrapezoidalSharedColumns shared(scan);
  const TrapezoidalSizeColumns sizes(scan);
  const TrapezoidalParameterColumns parameters(scan);
  const std::int64_t rank = scan.rank, states = scan.states, width = scan.head_width;
  const bool write = head == task.first_head;
  const float* mix = scan.value_mix == nullptr ? nullptr : scan.value_mix + head * rank * width;
  double d_log = 0.0;
  for (std::int64_t t = rows - 1; t >= 0; --t) {
    const float* const row = task.prepared.row(first + t);
    float* const to = task.shared.row(first + t);
    for (std::int64_t r = 0; r < rank; ++r) {
      const std::int64_t m = t * rank + r;
      float* const dk = s.dk + m * s.n;
      float* const dq = s.dq + m * s.n;
      trapezoidal_rotate_backward(scan, s.rotation(t), s.k + m * s.n, dk, s.d_theta);
      trapezoidal_rotate_backward(scan, s.rotation(t), s.q + m * s.n, dq, s.d_theta);
      add_or_write(dk, states, false, s.sums + parameters.b_bias + r * states);
      add_or_write(dq, states, false, s.sums + parameters.c_bias + r * states);
      add_or_write(dk, states, write, to + shared.b + r * states);
      add_or_write(dq, states, write, to + shared.c + r * states);
    }
    const float* const x = task.in->x.row(first + t) + head * width;
    float* const dx = task.gradients->x.row(first + t) + head * width;
    const float* const dv = s.dv + t * rank * s.p;
    for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 sum = hn::Zero(d);
      for (std::int64_t r = 0; r < rank; ++r) {
        const VecF32 g = load<kWhole>(dv + r * s.p + p, part);
        if (mix == nullptr) {
          sum = hn::Add(sum, g);
          continue;
        }
        sum = hn::MulAdd(g, load<kWhole>(mix + r * width + p, part), sum);
        add_to<kWhole>(hn::Mul(g, load<kWhole>(x + p, part)), s.sums + parameters.value_mix + r * s.p + p, part);
      }
      store<kWhole>(sum, dx + p, part);
    });

    VecF32 along = hn::Zero(d);
    const VecF32 dt = hn::Set(d, row[columns.dt + head]);
    for_vectors(scan.angles, [&](auto whole, std::int64_t i, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      const VecF32 g = load<kWhole>(s.d_theta + i, part);
      along = hn::MulAdd(g, load<kWhole>(row + columns.turn + i, part), along);
      VecF32 turn = hn::Mul(g, dt);
      if (!write) turn = hn::Add(turn, load<kWhole>(to + shared.turn + i, part));
      store<kWhole>(turn, to + shared.turn + i, part);
    });
    d_log += s.d_cum[t];
    float* const of = task.sizes.row(first + t);
    of[sizes.log_decay + head] = static_cast<float>(d_log);
    of[sizes.dt + head] = sum_lanes(along);
    of[sizes.gamma + head] = static_cast<float>(s.d_gamma[t] + s.d_carry[t]);
    // The beta of the row behind: where there is none, c has no part of it, and no row that would take this.
    if (first + t + 1 < end_row) task.sizes.row(first + t + 1)[sizes.shift + head] = static_cast<float>(s.d_carry[t]);
  }
}

// Chunk `chunk` of a sequence: `rows` rows from `first` on. D stands in s.ds, that of theta behind it in s.d_theta.
HWY_INLINE void trapezoidal_chunk_backward(const TrapezoidalBackwardTask& task, std::int64_t head, std::size_t sequence,
                                           std::int64_t chunk, std::int64_t first, std::int64_t rows,
                                           const TrapezoidalBackwardScratch& s) {
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalParameterColumns parameters(scan);
  const TrapezoidalBackwardSequence& of = task.sequences[sequence];
  const std::int64_t rank = scan.rank, states = scan.states, width = scan.head_width;
  const std::int64_t end_row = of.first_row + of.rows;
  const std::int64_t at = (task.first_chunks[sequence] + chunk) * scan.heads + head;
  for (std::int64_t n = 0; n < states; ++n) {
    std::copy_n(task.saved.s + (at * states + n) * width, width, s.s + n * s.p);
  }
  std::copy_n(task.saved.angle + at * scan.angles, scan.angles, s.theta);
  std::fill_n(s.sums, parameters.count, 0.0F);
  for (double* sums : {s.d_cum, s.d_carry, s.d_gamma}) std::fill_n(sums, rows, 0.0);
  const bool last = first + rows == end_row;
  const float carried = trapezoidal_chunk_sizes(task.prepared, TrapezoidalColumns(scan), head, first, rows,
                                                last ? rows : rows + 1, s.sizes);
  trapezoidal_factors(scan, rows, s);
  trapezoidal_chunk_rows(task, head, first, rows, s);
  trapezoidal_chunk_forward(scan, rows * rank, s);
  for (std::int64_t t = 0; t < rows; ++t) {
    const std::int64_t m = t * rank * s.p;
    trapezoidal_outputs_backward(task, head, first + t, s.raw + m, s.value + m, s.p, s.g + m, s.sums);
  }
  trapezoidal_chunk_values_backward(scan, head, rows, s);
  trapezoidal_chunk_keys_backward(scan, rows, carried, s);
  const bool asked = last && of.final_gradient != nullptr;
  for (std::int64_t r = 0; asked && r < rank; ++r) {
    const float* const key = reinterpret_cast<const float*>(of.final_gradient + scan.key_offset);
    add_or_write(key + (head * rank + r) * states, states, false, s.dk + ((rows - 1) * rank + r) * s.n);
  }
  trapezoidal_chunk_inputs_backward(task, head, first, rows, end_row, s);
  if (asked) {
    const float* const value = reinterpret_cast<const float*>(of.final_gradient + scan.value_offset);
    add_or_write(value + head * width, width, false, task.gradients->x.row(end_row - 1) + head * width);
  }
  add_or_write(s.sums, parameters.count, false, task.parameters.row(head));
}

// What the first state's k and x add to S, (1 - l) dt k_r v_r^T of the first row, backwards. D stands in s.ds.
HWY_NOINLINE void trapezoidal_pending_backward(const TrapezoidalBackwardTask& task, std::int64_t head,
                                               const TrapezoidalBackwardSequence& sequence,
                                               const TrapezoidalBackwardScratch& s) {
  const TrapezoidalScan& scan = *task.scan;
  const std::int64_t rank = scan.rank, states = scan.states, width = scan.head_width;
  float* const d_shift = task.sizes.row(sequence.first_row) + TrapezoidalSizeColumns(scan).shift + head;
  *d_shift = 0.0F;
  float* const key_gradient =
      sequence.initial_gradient == nullptr
          ? nullptr
          : reinterpret_cast<float*>(sequence.initial_gradient + scan.key_offset) + head * rank * states;
  float* const value_gradient =
      sequence.initial_gradient == nullptr
          ? nullptr
          : reinterpret_cast<float*>(sequence.initial_gradient + scan.value_offset) + head * width;
  if (key_gradient != nullptr) {
    std::fill_n(key_gradient, rank * states, 0.0F);
    std::fill_n(value_gradient, width, 0.0F);
  }
  if (sequence.initial == nullptr) return;
  const float* const key = reinterpret_cast<const float*>(sequence.initial + scan.key_offset) + head * rank * states;
  const float* const x = reinterpret_cast<const float*>(sequence.initial + scan.value_offset) + head * width;
  const float shift = task.prepared.row(sequence.first_row)[TrapezoidalColumns(scan).shift + head];
  float* const d_mix = task.parameters.row(head) + TrapezoidalParameterColumns(scan).value_mix;
  float* const v = s.value;  // free: no chunk is left
  float* const dv = s.dv;
  double sum = 0.0;
  for (std::int64_t r = 0; r < rank; ++r) {
    const float* mix = scan.value_mix == nullptr ? nullptr : scan.value_mix + (head * rank + r) * width;
    for (std::int64_t p = 0; p < width; ++p) v[p] = mix == nullptr ? x[p] : x[p] * mix[p];
    for (std::int64_t n = 0; n < states; ++n) {
      const float along = dot_padded(s.ds + n * s.p, v, s.p);
      sum += along * double{key[r * states + n]};
      if (key_gradient != nullptr) key_gradient[r * states + n] = shift * along;
    }
    gemm_product({.rows = 1,
                  .columns = s.p,
                  .k = states,
                  .a = key + r * states,
                  .a_row = 0,
                  .a_column = 1,
                  .b = s.ds,
                  .ldb = s.p,
                  .c = dv,
                  .ldc = s.p});
    for (std::int64_t p = 0; p < width; ++p) {
      const float g = shift * dv[p];
      if (mix != nullptr) d_mix[r * s.p + p] += g * x[p];
      if (value_gradient != nullptr) value_gradient[p] += mix == nullptr ? g : g * mix[p];
    }
  }
  *d_shift = static_cast<float>(sum);
}

// D and d_theta of a head from what is asked of the state after the last row.
HWY_NOINLINE void trapezoidal_final_gradient(const TrapezoidalScan& scan, std::int64_t head,
                                             const TrapezoidalBackwardSequence& sequence,
                                             const TrapezoidalBackwardScratch& s) {
  const std::int64_t states = scan.states, width = scan.head_width;
  std::fill_n(s.ds, states * s.p, 0.0F);
  std::fill_n(s.d_theta, scan.angles, 0.0F);
  if (sequence.final_gradient == nullptr) return;
  const float* const from = reinterpret_cast<const float*>(sequence.final_gradient) + head * states * width;
  for (std::int64_t n = 0; n < states; ++n) std::copy_n(from + n * width, width, s.ds + n * s.p);
  const float* const angle = reinterpret_cast<const float*>(sequence.final_gradient + scan.angle_offset);
  std::copy_n(angle + head * scan.angles, scan.angles, s.d_theta);
}

// And what is left of them at the first row is what the state before it is told.
HWY_NOINLINE void trapezoidal_initial_gradient(const TrapezoidalScan& scan, std::int64_t head,
                                               const TrapezoidalBackwardSequence& sequence,
                                               const TrapezoidalBackwardScratch& s) {
  if (sequence.initial_gradient == nullptr) return;
  const std::int64_t states = scan.states, width = scan.head_width;
  float* const to = reinterpret_cast<float*>(sequence.initial_gradient) + head * states * width;
  for (std::int64_t n = 0; n < states; ++n) std::copy_n(s.ds + n * s.p, width, to + n * width);
  float* const angle = reinterpret_cast<float*>(sequence.initial_gradient + scan.angle_offset);
  std::copy_n(s.d_theta, scan.angles, angle + head * scan.angles);
}

// All heads of a chunk before the chunk before it: what they share of its rows is still in the cache.
void trapezoidal_heads_backward(const TrapezoidalBackwardTask& task, float* scratch) {
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalBackwardScratch all = carve_trapezoidal_backward_scratch(scan, task.heads, scratch);
  // Columns of padding are computed with and not used, but must be numbers.
  std::fill_n(scratch, all.floats, 0.0F);
  const std::int64_t chunk = scan.chunk_rows();
  const auto for_heads = [&](auto&& body) {
    for (std::int64_t i = 0; i < task.heads; ++i) {
      TrapezoidalBackwardScratch s = all;
      s.ds += i * scan.states * s.p;
      s.d_theta += i * s.angles;
      body(task.first_head + i, s);
    }
  };
  for (std::size_t i = 0; i < task.sequences.size(); ++i) {
    const TrapezoidalBackwardSequence& sequence = task.sequences[i];
    if (sequence.rows == 0) continue;
    for_heads([&](std::int64_t head, const TrapezoidalBackwardScratch& s) {
      trapezoidal_final_gradient(scan, head, sequence, s);
    });
    for (std::int64_t done = (sequence.rows - 1) / chunk * chunk; done >= 0; done -= chunk) {
      for_heads([&](std::int64_t head, const TrapezoidalBackwardScratch& s) {
        trapezoidal_chunk_backward(task, head, i, done / chunk, sequence.first_row + done,
                                   std::min(chunk, sequence.rows - done), s);
      });
    }
    for_heads([&](std::int64_t head, const TrapezoidalBackwardScratch& s) {
      trapezoidal_pending_backward(task, head, sequence, s);
      trapezoidal_initial_gradient(scan, head, sequence, s);
    });
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
