// One sequence and one key head of delta_scan_backward, chunk by chunk from the last to the first. With c_t the sum of
// a dt up to row t of the chunk, F_tj = exp(c_t - c_j) for j <= t and S the state before the chunk, forward is
//   A = F o (K K^T) below the diagonal,  B = F o (Q K^T) on it and below
//   x_t = v_t - exp(c_t) S^T k_t - sum_j A_tj u_j,  u_t = beta_t x_t      (substitution, row by row)
//   O = exp(c) o (Q S) + B U,  S' = exp(c_T) S + K^T (e o U),  e_t = exp(c_T - c_t)
// and its gradients, with G = dO and D = dS':
//   dU = B^T G + e o (K D) - A^T dX,  dX = beta o dU                      (substitution, from the last row up)
//   dB = G U^T,  dA = -dX U^T, each where B and A are not zero
//   dQ = (exp(c) o G) S^T + (dB o F) K
//   dK = -(exp(c) o dX) S^T + (e o U) D^T + (dB o F)^T Q + (dA o F) K + (dA o F)^T K
//   dS = exp(c_T) D + Q^T (exp(c) o G) - K^T (exp(c) o dX)
// c_t is in F_tj and F_jt, in exp(c_t) and in e. No exponent is above zero.
#if defined(KRAIT_KERNELS_SIMD_DELTA_CHUNKS_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_DELTA_CHUNKS_BACKWARD_INL_H_
#undef KRAIT_KERNELS_SIMD_DELTA_CHUNKS_BACKWARD_INL_H_
#else
#define KRAIT_KERNELS_SIMD_DELTA_CHUNKS_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <utility>

#include "krait/kernels/scan_delta_backward_task.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"
#include "krait/kernels/simd/gemm_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Scratch of one task, carved from one allocation. C: rows of a chunk; C, Dk and Dv padded to whole vectors where they
// are columns.
struct DeltaBackwardScratch {
  double* d_cum;                                   // [C]
  float *high, *low, *from_start, *to_end, *beta;  // [C]: c in two floats, exp(c_t), e_t
  float* both;                                     // [C]: dA o A + dB o B of a row
  float *q, *k, *dq, *dk;                          // [C, Dk]
  float* k_t;                                      // [Dk, C]
  float *g, *from_g;                               // [C, Dv]: dO, exp(c) o dO
  float *known, *x, *u;                            // [C, Dv]: K S
  float *kd, *du, *from_dx;                        // [C, Dv]: K D; dU, then dX; exp(c) o dX
  float* u_t;                                      // [Dv, C]
  float *factor, *a, *b, *da, *db;                 // [C, C]
  float *s, *ds;                                   // [Dk, Dv]
  float *s_t, *ds_t;                               // [Dv, Dk]
  std::int64_t c, keys, values;                    // padded
  std::int64_t floats;                             // of all
};

// from: null to learn how much there has to be.
HWY_INLINE DeltaBackwardScratch carve_delta_backward_scratch(const DeltaScan& scan, float* from) {
  const auto padded = [](std::int64_t count) { return (count + 15) / 16 * 16; };
  DeltaBackwardScratch s{};
  const auto take = [&](std::int64_t count) {
    const std::int64_t at = std::exchange(s.floats, s.floats + count);
    return from == nullptr ? nullptr : from + at;
  };
  s.c = padded(scan.chunk);
  s.keys = padded(scan.key_width);
  s.values = padded(scan.value_width);
  s.d_cum = reinterpret_cast<double*>(take(2 * s.c));
  for (float** piece : {&s.high, &s.low, &s.from_start, &s.to_end, &s.beta, &s.both}) *piece = take(s.c);
  for (float** piece : {&s.q, &s.k, &s.dq, &s.dk}) *piece = take(s.c * s.keys);
  s.k_t = take(scan.key_width * s.c);
  for (float** piece : {&s.g, &s.from_g, &s.known, &s.x, &s.u, &s.kd, &s.du, &s.from_dx}) {
    *piece = take(s.c * s.values);
  }
  s.u_t = take(scan.value_width * s.c);
  for (float** piece : {&s.factor, &s.a, &s.b, &s.da, &s.db}) *piece = take(s.c * s.c);
  for (float** piece : {&s.s, &s.ds}) *piece = take(scan.key_width * s.values);
  for (float** piece : {&s.s_t, &s.ds_t}) *piece = take(scan.value_width * s.keys);
  return s;
}

std::int64_t delta_backward_scratch(const DeltaScan& scan) {
  return carve_delta_backward_scratch(scan, nullptr).floats;
}

// c_t, exp(c_t), e_t and F; returns exp(c_T).
HWY_NOINLINE float delta_chunk_sizes(const DeltaBackwardTask& task, std::int64_t head, std::int64_t first,
                                     std::int64_t rows, const DeltaBackwardScratch& s) {
  const F32 d;
  // A running sum whose differences are exponentiated: in double, then as the float nearest to it and the rest. In
  // units of ln 2.
  double total = 0.0;
  for (std::int64_t t = 0; t < rows; ++t) {
    total += double{task.scan->a[head]} * double{task.in->dt.row(first + t)[head]} * 1.4426950408889634;
    s.high[t] = static_cast<float>(total);
    s.low[t] = static_cast<float>(total - s.high[t]);
    s.beta[t] = task.in->beta.row(first + t)[head];
  }
  const VecF32 high = hn::Set(d, s.high[rows - 1]), low = hn::Set(d, s.low[rows - 1]);
  for_vectors(rows, [&](auto whole, std::int64_t t, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 cum = load<kWhole>(s.high + t, part);
    VecF32 power[2] = {cum, hn::Add(hn::Sub(high, cum), hn::Sub(low, load<kWhole>(s.low + t, part)))};
    exp2_f32(power);
    store<kWhole>(power[0], s.from_start + t, part);
    store<kWhole>(power[1], s.to_end + t, part);
  });
  for (std::int64_t t = 0; t < rows; ++t) {
    const VecF32 row_high = hn::Set(d, s.high[t]), row_low = hn::Set(d, s.low[t]);
    for_vectors(t + 1, [&](auto whole, std::int64_t j, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 power[1] = {
          hn::Add(hn::Sub(row_high, load<kWhole>(s.high + j, part)), hn::Sub(row_low, load<kWhole>(s.low + j, part)))};
      exp2_f32(power);
      store<kWhole>(power[0], s.factor + t * s.c + j, part);
    });
    std::fill(s.factor + t * s.c + t + 1, s.factor + (t + 1) * s.c, 0.0F);
  }
  return s.from_start[rows - 1];
}

// m = F o m, zero after the diagonal; with kStrict on it too.
template <bool kStrict>
HWY_INLINE void delta_mask(std::int64_t rows, const DeltaBackwardScratch& s, float* m) {
  for (std::int64_t t = 0; t < rows; ++t) {
    float* const row = m + t * s.c;
    const float* const factor = s.factor + t * s.c;
    // What lies after the diagonal may be left over from anything: it is not multiplied.
    for_vectors(t + 1, [&](auto whole, std::int64_t j, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      store<kWhole>(hn::Mul(load<kWhole>(row + j, part), load<kWhole>(factor + j, part)), row + j, part);
    });
    std::fill(row + t + (kStrict ? 0 : 1), row + s.c, 0.0F);
  }
}

// to [Dv] = from - sum_j weight_j rows_j, `count` of them.
HWY_INLINE void delta_subtract(const float* weights, std::int64_t weight_stride, std::int64_t count, const float* rows,
                               const DeltaBackwardScratch& s, const float* from, float* to) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const F32 d;
  for_gemm_columns(s.values, [&](auto vectors, std::int64_t p) {
    GemmBlock<1, decltype(vectors)::value> sum;
    sum.clear();
    sum.accumulate({.k = count, .a = weights, .a_row = 0, .a_column = weight_stride, .b = rows + p, .ldb = s.values});
    for (std::int64_t v = 0; v < decltype(vectors)::value; ++v) {
      hn::StoreU(hn::Sub(hn::LoadU(d, from + p + v * lanes), sum.v[0][v]), d, to + p + v * lanes);
    }
  });
}

// A, B, K S, X and U of a chunk, whose S is in place.
HWY_NOINLINE void delta_chunk_forward(const DeltaBackwardTask& task, std::int64_t rows, const DeltaBackwardScratch& s) {
  const std::int64_t keys = task.scan->key_width, values = task.scan->value_width;
  gemm_product({rows, s.c, keys}, {s.k, s.keys}, {s.k_t, s.c}, {s.a, s.c}, GemmShape::kLowerC);
  gemm_product({rows, s.c, keys}, {s.q, s.keys}, {s.k_t, s.c}, {s.b, s.c}, GemmShape::kLowerC);
  delta_mask<true>(rows, s, s.a);
  delta_mask<false>(rows, s, s.b);
  gemm_product({rows, s.values, keys}, {s.k, s.keys}, {s.s, s.values}, {s.known, s.values});
  const F32 d;
  for (std::int64_t t = 0; t < rows; ++t) {
    float* const x = s.x + t * s.values;
    float* const u = s.u + t * s.values;
    const VecF32 decay = hn::Set(d, s.from_start[t]);
    for (std::int64_t p = 0; p < s.values; p += static_cast<std::int64_t>(kLanes)) {
      const VecF32 known = hn::LoadU(d, s.known + t * s.values + p);
      hn::StoreU(hn::NegMulAdd(decay, known, hn::LoadU(d, x + p)), d, x + p);
    }
    delta_subtract(s.a + t * s.c, 1, t, s.u, s, x, x);
    scale_padded(x, s.beta[t], s.values, u);
  }
  gemm_transpose(s.u, s.values, rows, values, s.u_t, s.c);
}

// dU, dX and dbeta, and what e has in dc.
HWY_NOINLINE void delta_chunk_inputs_backward(const DeltaBackwardTask& task, std::int64_t head, std::int64_t first,
                                              std::int64_t rows, const DeltaBackwardScratch& s) {
  const F32 d;
  const std::int64_t keys = task.scan->key_width;
  gemm_product({rows, s.values, keys}, {s.k, s.keys}, {s.ds, s.values}, {s.kd, s.values});
  gemm_product({rows, s.values, rows}, GemmLeft::transposed(s.b, s.c), {s.g, s.values}, {s.du, s.values},
               GemmShape::kUpperA);
  for (std::int64_t t = rows - 1; t >= 0; --t) {
    float* const du = s.du + t * s.values;
    const float* const kd = s.kd + t * s.values;
    const VecF32 end = hn::Set(d, s.to_end[t]);
    for (std::int64_t p = 0; p < s.values; p += static_cast<std::int64_t>(kLanes)) {
      hn::StoreU(hn::MulAdd(end, hn::LoadU(d, kd + p), hn::LoadU(d, du + p)), d, du + p);
    }
    delta_subtract(s.a + (t + 1) * s.c + t, s.c, rows - 1 - t, s.du + (t + 1) * s.values, s, du, du);
    task.gradients->beta.row(first + t)[head] = dot_padded(du, s.x + t * s.values, s.values);
    scale_padded(du, s.beta[t], s.values, du);
    scale_padded(du, s.from_start[t], s.values, s.from_dx + t * s.values);
    const double ended = double{s.to_end[t]} * dot_padded(kd, s.u + t * s.values, s.values);
    s.d_cum[rows - 1] += ended;
    s.d_cum[t] -= ended + dot_padded(s.from_dx + t * s.values, s.known + t * s.values, s.values);
    float* const dv = task.gradients->v.row(first + t) + head * task.scan->value_width;
    std::copy_n(du, task.scan->value_width, dv);
  }
}

// dA o F and dB o F, and what F has in dc.
HWY_NOINLINE void delta_chunk_weights_backward(const DeltaBackwardTask& task, std::int64_t rows,
                                               const DeltaBackwardScratch& s) {
  const GemmSize size = {rows, s.c, task.scan->value_width};
  gemm_product(size, {s.g, s.values}, {s.u_t, s.c}, {s.db, s.c}, GemmShape::kLowerC);
  gemm_product(size, {s.du, s.values}, {s.u_t, s.c}, {s.da, s.c}, GemmShape::kLowerC);
  for (std::int64_t t = 0; t < rows; ++t) {
    float* const da = s.da + t * s.c;
    // On the diagonal F is 1 whatever c.
    for_vectors(t, [&](auto whole, std::int64_t j, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      const VecF32 minus = hn::Neg(load<kWhole>(da + j, part));
      const VecF32 both =
          hn::MulAdd(minus, load<kWhole>(s.a + t * s.c + j, part),
                     hn::Mul(load<kWhole>(s.db + t * s.c + j, part), load<kWhole>(s.b + t * s.c + j, part)));
      store<kWhole>(both, s.both + j, part);
      store<kWhole>(minus, da + j, part);
    });
    // What comes in at t must leave at j without a rest, or every row before j is left with it: in double.
    double sum = 0.0;
    for (std::int64_t j = 0; j < t; ++j) {
      sum += s.both[j];
      s.d_cum[j] -= s.both[j];
    }
    s.d_cum[t] += sum;
  }
  delta_mask<true>(rows, s, s.da);
  delta_mask<false>(rows, s, s.db);
}

// dQ, dK, and D becomes dS.
HWY_NOINLINE void delta_chunk_keys_backward(const DeltaBackwardTask& task, std::int64_t rows, float carried,
                                            const DeltaBackwardScratch& s) {
  const std::int64_t keys = task.scan->key_width, values = task.scan->value_width;
  gemm_transpose(s.s, s.values, keys, values, s.s_t, s.keys);
  gemm_transpose(s.ds, s.values, keys, values, s.ds_t, s.keys);
  const GemmSize from_values = {rows, s.keys, values}, from_rows = {rows, s.keys, rows},
                 to_state = {keys, s.values, rows};
  gemm_product(from_values, {s.from_g, s.values}, {s.s_t, s.keys}, {s.dq, s.keys});
  for (std::int64_t t = 0; t < rows; ++t) {
    s.d_cum[t] += dot_padded(s.q + t * s.keys, s.dq + t * s.keys, s.keys);
    // Taken from what U D^T is added to.
    scale_padded(s.from_dx + t * s.values, -1.0F, s.values, s.from_dx + t * s.values);
    scale_padded(s.u + t * s.values, s.to_end[t], s.values, s.u + t * s.values);
  }
  gemm_product(from_values, {s.from_dx, s.values}, {s.s_t, s.keys}, {s.dk, s.keys});
  gemm_product_add(from_values, {s.u, s.values}, {s.ds_t, s.keys}, {s.dk, s.keys});
  gemm_product_add(from_rows, {s.db, s.c}, {s.k, s.keys}, {s.dq, s.keys}, GemmShape::kLowerA);
  gemm_product_add(from_rows, {s.da, s.c}, {s.k, s.keys}, {s.dk, s.keys}, GemmShape::kLowerA);
  gemm_product_add(from_rows, GemmLeft::transposed(s.da, s.c), {s.k, s.keys}, {s.dk, s.keys}, GemmShape::kUpperA);
  gemm_product_add(from_rows, GemmLeft::transposed(s.db, s.c), {s.q, s.keys}, {s.dk, s.keys}, GemmShape::kUpperA);

  s.d_cum[rows - 1] += double{carried} * dot_padded(s.s, s.ds, keys * s.values);
  scale_padded(s.ds, carried, keys * s.values, s.ds);
  gemm_product_add(to_state, GemmLeft::transposed(s.q, s.keys), {s.from_g, s.values}, {s.ds, s.values});
  gemm_product_add(to_state, GemmLeft::transposed(s.k, s.keys), {s.from_dx, s.values}, {s.ds, s.values});
}

// Chunk `chunk` of a value head: `rows` rows from `first` on. D stands in s.ds. add: to dq and dk of another head.
HWY_INLINE void delta_chunk_backward(const DeltaBackwardTask& task, std::int64_t head, std::int64_t chunk,
                                     std::int64_t first, std::int64_t rows, bool add, const DeltaBackwardScratch& s) {
  const DeltaScan& scan = *task.scan;
  const std::int64_t keys = scan.key_width, values = scan.value_width, first_key = task.key_head * keys;
  const float* const saved = task.saved + (chunk * scan.value_heads + head) * keys * values;
  for (std::int64_t key = 0; key < keys; ++key) std::copy_n(saved + key * values, values, s.s + key * s.values);
  const float carried = delta_chunk_sizes(task, head, first, rows, s);
  for (std::int64_t t = 0; t < rows; ++t) {
    std::copy_n(task.in->q.row(first + t) + first_key, keys, s.q + t * s.keys);
    std::copy_n(task.in->k.row(first + t) + first_key, keys, s.k + t * s.keys);
    std::copy_n(task.in->v.row(first + t) + head * values, values, s.x + t * s.values);
    std::copy_n(task.d_o.row(first + t) + head * values, values, s.g + t * s.values);
    scale_padded(s.g + t * s.values, s.from_start[t], s.values, s.from_g + t * s.values);
  }
  gemm_transpose(s.k, s.keys, rows, keys, s.k_t, s.c);
  std::fill_n(s.d_cum, rows, 0.0);
  delta_chunk_forward(task, rows, s);
  delta_chunk_inputs_backward(task, head, first, rows, s);
  delta_chunk_weights_backward(task, rows, s);
  delta_chunk_keys_backward(task, rows, carried, s);
  for (std::int64_t t = 0; t < rows; ++t) {
    float* const dq = task.gradients->q.row(first + t) + first_key;
    float* const dk = task.gradients->k.row(first + t) + first_key;
    for_vectors(keys, [&](auto whole, std::int64_t i, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 q = load<kWhole>(s.dq + t * s.keys + i, part), k = load<kWhole>(s.dk + t * s.keys + i, part);
      if (add) {
        q = hn::Add(q, load<kWhole>(dq + i, part));
        k = hn::Add(k, load<kWhole>(dk + i, part));
      }
      store<kWhole>(q, dq + i, part);
      store<kWhole>(k, dk + i, part);
    });
  }
  double d_log = 0.0;
  for (std::int64_t t = rows - 1; t >= 0; --t) {
    d_log += s.d_cum[t];
    task.gradients->dt.row(first + t)[head] = static_cast<float>(scan.a[head] * d_log);
    task.da[head] += task.in->dt.row(first + t)[head] * d_log;
  }
}

void delta_rows_backward(const DeltaBackwardTask& task, float* scratch) {
  const DeltaScan& scan = *task.scan;
  const DeltaBackwardSequence& sequence = *task.sequence;
  const DeltaBackwardScratch s = carve_delta_backward_scratch(scan, scratch);
  // Columns of padding are computed with and not used, but must be numbers.
  std::fill_n(scratch, s.floats, 0.0F);
  const std::int64_t per_key = scan.value_heads / scan.key_heads, size = scan.key_width * scan.value_width;
  for (std::int64_t head = task.key_head * per_key; head < (task.key_head + 1) * per_key; ++head) {
    for (std::int64_t key = 0; key < scan.key_width; ++key) {
      float* const to = s.ds + key * s.values;
      if (sequence.final_gradient == nullptr) {
        std::fill_n(to, scan.value_width, 0.0F);
      } else {
        std::copy_n(sequence.final_gradient + head * size + key * scan.value_width, scan.value_width, to);
      }
    }
    task.da[head] = 0.0;
    for (std::int64_t done = (sequence.rows - 1) / scan.chunk * scan.chunk; done >= 0 && sequence.rows > 0;
         done -= scan.chunk) {
      delta_chunk_backward(task, head, done / scan.chunk, sequence.first_row + done,
                           std::min(scan.chunk, sequence.rows - done), head % per_key > 0, s);
    }
    if (sequence.initial_gradient == nullptr) continue;
    for (std::int64_t key = 0; key < scan.key_width; ++key) {
      std::copy_n(s.ds + key * s.values, scan.value_width,
                  sequence.initial_gradient + head * size + key * scan.value_width);
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
