// ssd_scan_backward, chunk by chunk in matrix form. Of one head and a chunk of Q rows, with the notation of
// ssd_chunks-inl.h, K = (C B^T) o L, L[i, j] = exp(cum_i - cum_j) [j <= i], S the state before the chunk and G the
// gradient of the one after it:
//   dX'     = K^T dY + diag(exp(cum_Q - cum)) B G,     dx = dt dX' + D dY
//   dW      = (dY X'^T) o L,                           d(C B^T) = dW, from which dC += dW B, dB += dW^T C
//   dC     += diag(exp(cum)) dY S^T =: U,              dB += diag(exp(cum_Q - cum)) X' G^T =: V
//   G       = exp(cum_Q) G + C^T diag(exp(cum)) dY
//   d(dt_j A) = sum_{k < j <= i} (dW o C B^T)[i, k] + sum_{i >= j} C_i . U_i + sum_{k < j} B_k . V_k + exp(cum_Q) <G,
//   S>
// The last line adds up the terms that decay across row j and no others: as a running sum of the gradients of cum, most
// of it would cancel. Heads of a group share B and C, hence dW, U and V are summed over them before the products with B
// and C are taken. Matrices stand transposed where sums along them then run across vectors of rows.
#if defined(KRAIT_KERNELS_SIMD_SSD_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SSD_BACKWARD_INL_H_
#undef KRAIT_KERNELS_SIMD_SSD_BACKWARD_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SSD_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "krait/kernels/scan_ssd_backward_task.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/gemm-inl.h"
#include "krait/kernels/simd/ssd_backward_shared-inl.h"
#include "krait/kernels/simd/ssd_decays-inl.h"
#include "krait/kernels/simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

HWY_INLINE VecF32 load_first(const float* from, std::int64_t count) {
  if (count >= static_cast<std::int64_t>(kLanes)) return hn::LoadU(F32(), from);
  return count > 0 ? load_part(from, static_cast<std::size_t>(count)) : hn::Zero(F32());
}

// Scratch of one task; rows of Q and P are padded to whole vectors.
struct SsdBackwardScratch : SsdDecays {
  float *carried_out, *carried_in;       // [Q]: C_i . U_i and B_j . V_j
  float *crossing, *before_row;          // [Q]: sums over the pairs about row j; sum_{k < j} of each column
  float *to_step, *slope;                // [Q]: sum_p x dX', d dt / d raw
  float *weights, *terms;                // [kGemmRows, Q]: K^T and dW^T o K^T of a block of rows
  float *x_dt, *dy, *dy_decayed, *to_x;  // [Q, P]: X', dY, diag(exp(cum)) dY, dX'
  float *x_transposed, *dy_transposed;   // [P, Q]: X'^T, dY^T
  float* before;                         // [N, P]: S, where the stored one has no whole vectors
  float* carried;                        // [heads][N, P]: G
  float* d;                              // [heads][P]
  std::int64_t q, p;
};

inline std::int64_t ssd_backward_scratch_floats(const SsdScan& scan, std::int64_t heads, std::int64_t q) {
  const std::int64_t p = ssd_padded(scan.head_width);
  return (11 + 2 * kGemmRows) * q + 4 * q * p + 2 * p * q + (heads + 1) * scan.states * p + heads * p;
}

HWY_INLINE SsdBackwardScratch carve_ssd_backward_scratch(const SsdBackwardTask& task, float* from) {
  SsdBackwardScratch s{};
  s.q = task.q;
  s.p = whole_vectors(task.scan->head_width);
  const auto take = [&](std::int64_t count) { return std::exchange(from, from + count); };
  for (float** piece : {&s.dt, &s.high, &s.low, &s.from_start, &s.to_end, &s.carried_out, &s.carried_in, &s.crossing,
                        &s.before_row, &s.to_step, &s.slope}) {
    *piece = take(s.q);
  }
  for (float** piece : {&s.weights, &s.terms}) *piece = take(kGemmRows * s.q);
  for (float** piece : {&s.x_dt, &s.dy, &s.dy_decayed, &s.to_x}) *piece = take(s.q * s.p);
  for (float** piece : {&s.x_transposed, &s.dy_transposed}) *piece = take(s.p * s.q);
  s.before = take(task.scan->states * s.p);
  s.carried = take(task.heads * task.scan->states * s.p);
  s.d = take(task.heads * s.p);
  return s;
}

// X', dY and what is derived of them; columns past P and rows past the chunk's are zero.
HWY_NOINLINE void ssd_backward_rows(const SsdBackwardTask& task, std::int64_t head, std::int64_t first,
                                    std::int64_t rows, const SsdBackwardScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t width = task.scan->head_width;
  for (std::int64_t j = 0; j < rows; ++j) {
    const float* x = task.in->x.row(first + j) + head * width;
    const float* dy = task.dy.row(first + j) + head * width;
    const VecF32 dt = hn::Set(d, s.dt[j]), decay = hn::Set(d, s.from_start[j]);
    for (std::int64_t p = 0; p < s.p; p += lanes) {
      const VecF32 up = load_first(dy + p, width - p);
      hn::StoreU(hn::Mul(dt, load_first(x + p, width - p)), d, s.x_dt + j * s.p + p);
      hn::StoreU(up, d, s.dy + j * s.p + p);
      hn::StoreU(hn::Mul(decay, up), d, s.dy_decayed + j * s.p + p);
    }
  }
  for (std::int64_t p = 0; p < s.p; ++p) {
    std::fill(s.x_transposed + p * s.q + rows, s.x_transposed + p * s.q + whole_vectors(rows), 0.0F);
    std::fill(s.dy_transposed + p * s.q + rows, s.dy_transposed + p * s.q + whole_vectors(rows), 0.0F);
  }
  transpose(s.x_dt, s.p, rows, s.p, s.x_transposed, s.q);
  transpose(s.dy, s.p, rows, s.p, s.dy_transposed, s.q);
}

// The part of dX' that comes from G.
HWY_NOINLINE void ssd_backward_inputs(const SsdBackwardTask& task, std::int64_t first, std::int64_t rows,
                                      const float* carried, const SsdBackwardScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t column = task.group() * task.scan->states;
  for_gemm_rows(rows, [&](auto block_rows, std::int64_t j) {
    for_gemm_columns(s.p, [&](auto vectors, std::int64_t p) {
      constexpr std::int64_t kRows = decltype(block_rows)::value, kVectors = decltype(vectors)::value;
      GemmBlock<kRows, kVectors> sum;
      sum.clear();
      sum.accumulate({.k = task.scan->states,
                      .a = task.in->b.row(first + j) + column,
                      .a_row = task.in->b.stride,
                      .a_column = 1,
                      .b = carried + p,
                      .ldb = s.p});
      for (std::int64_t r = 0; r < kRows; ++r) {
        const VecF32 factor = hn::Set(d, s.to_end[j + r]);
        for (std::int64_t v = 0; v < kVectors; ++v) {
          hn::StoreU(hn::Mul(factor, sum.v[r][v]), d, s.to_x + (j + r) * s.p + p + v * lanes);
        }
      }
    });
  });
}

// U^T or V^T [N, rows]: left [N, P] times right [P, Q], its columns times `factor`, is added to `to` [N, Q], and the
// sums over n of its products with `other` [N, Q] become `dot` [Q].
HWY_NOINLINE void ssd_backward_outer(std::int64_t states, std::int64_t rows, const float* left, const float* right,
                                     const float* factor, const float* other, float* to, float* dot,
                                     const SsdBackwardScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  std::fill_n(dot, whole_vectors(rows), 0.0F);
  for_gemm_columns(whole_vectors(rows), [&](auto vectors, std::int64_t i) {
    for_gemm_rows(states, [&](auto block_rows, std::int64_t n) {
      constexpr std::int64_t kRows = decltype(block_rows)::value, kVectors = decltype(vectors)::value;
      GemmBlock<kRows, kVectors> sum;
      sum.clear();
      sum.accumulate({.k = s.p, .a = left + n * s.p, .a_row = s.p, .a_column = 1, .b = right + i, .ldb = s.q});
      for (std::int64_t v = 0; v < kVectors; ++v) {
        const VecF32 scale = hn::LoadU(d, factor + i + v * lanes);
        VecF32 total = hn::LoadU(d, dot + i + v * lanes);
        for (std::int64_t r = 0; r < kRows; ++r) {
          const std::int64_t at = (n + r) * s.q + i + v * lanes;
          const VecF32 value = hn::Mul(scale, sum.v[r][v]);
          hn::StoreU(hn::Add(hn::LoadU(d, to + at), value), d, to + at);
          total = hn::MulAdd(value, hn::LoadU(d, other + at), total);
        }
        hn::StoreU(total, d, dot + i + v * lanes);
      }
    });
  });
}

// G = decay G + C^T diag(exp(cum)) dY; returns decay <G, S> of the old G.
HWY_NOINLINE float ssd_backward_state(const SsdBackwardTask& task, std::int64_t rows, float decay,
                                      const float* c_transposed, const float* before, float* carried,
                                      const SsdBackwardScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  VecF32 product = hn::Zero(d);
  for (std::int64_t i = 0; i < task.scan->states * s.p; i += lanes) {
    product = hn::MulAdd(hn::LoadU(d, carried + i), hn::LoadU(d, before + i), product);
  }
  gemm_update(task.scan->states, s.p,
              {.k = rows, .a = c_transposed, .a_row = s.q, .a_column = 1, .b = s.dy_decayed, .ldb = s.p}, decay,
              carried, s.p);
  return decay * sum_lanes(product);
}

// Rows j … j + kRows of dW^T, added to d(B C^T); of K^T, kept as weights; and of their product, kept as terms.
template <std::int64_t kRows, std::int64_t kVectors>
HWY_NOINLINE void ssd_backward_weights(std::int64_t j, std::int64_t i, std::int64_t rows, const float* bc, float* to_bc,
                                       const SsdBackwardScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  GemmBlock<kRows, kVectors> sum;
  sum.clear();
  sum.accumulate({.k = s.p, .a = s.x_dt + j * s.p, .a_row = s.p, .a_column = 1, .b = s.dy_transposed + i, .ldb = s.q});
  for (std::int64_t r = 0; r < kRows; ++r) {
    const VecF32 high = hn::Set(d, s.high[j + r]), low = hn::Set(d, s.low[j + r]);
    VecF32 decay[kVectors];
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const std::int64_t at = i + v * lanes;
      decay[v] = hn::Add(hn::Sub(hn::LoadU(d, s.high + at), high), hn::Sub(hn::LoadU(d, s.low + at), low));
    }
    exp2_f32(decay);
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const std::int64_t at = i + v * lanes, row = (j + r) * s.q + at;
      // Left of the diagonal and past the chunk's rows the exponent may be anything.
      const auto left = hn::FirstN(d, static_cast<std::size_t>(std::max<std::int64_t>(0, j + r - at)));
      const auto inside = hn::FirstN(d, static_cast<std::size_t>(std::max<std::int64_t>(0, rows - at)));
      const auto kept = hn::AndNot(left, inside);
      const VecF32 gradient = hn::IfThenElseZero(kept, hn::Mul(decay[v], sum.v[r][v]));
      const VecF32 product = hn::LoadU(d, bc + row);
      hn::StoreU(hn::Add(hn::LoadU(d, to_bc + row), gradient), d, to_bc + row);
      hn::StoreU(hn::IfThenElseZero(kept, hn::Mul(decay[v], product)), d, s.weights + r * s.q + at);
      hn::StoreU(hn::Mul(gradient, product), d, s.terms + r * s.q + at);
    }
  }
}

// The sums over pairs k < j <= i of the terms, row by row.
HWY_NOINLINE void ssd_backward_crossing(std::int64_t j, std::int64_t count, std::int64_t rows,
                                        const SsdBackwardScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t first = j / lanes * lanes;
  for (std::int64_t r = 0; r < count; ++r) {
    VecF32 sum = hn::Zero(d);
    for (std::int64_t i = first; i < rows; i += lanes) {
      const VecF32 before = hn::LoadU(d, s.before_row + i);
      const auto left_of = static_cast<std::size_t>(std::max<std::int64_t>(0, j + r - i));
      sum = hn::Add(sum, hn::IfThenZeroElse(hn::FirstN(d, left_of), before));
      hn::StoreU(hn::Add(before, hn::LoadU(d, s.terms + r * s.q + i)), d, s.before_row + i);
    }
    s.crossing[j + r] = sum_lanes(sum);
  }
}

// dX' of rows j … j + kRows and columns p …, complete, and what it gives: dx, sum_p x dX', dD.
template <std::int64_t kRows, std::int64_t kVectors>
HWY_NOINLINE void ssd_backward_outputs(const SsdBackwardTask& task, std::int64_t head, std::int64_t first,
                                       std::int64_t rows, std::int64_t j, std::int64_t p, float* to_d,
                                       const SsdBackwardScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const SsdScan& scan = *task.scan;
  const std::int64_t width = scan.head_width;
  GemmBlock<kRows, kVectors> sum;
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v) sum.v[r][v] = hn::LoadU(d, s.to_x + (j + r) * s.p + p + v * lanes);
  }
  sum.accumulate({.k = rows - j, .a = s.weights + j, .a_row = s.q, .a_column = 1, .b = s.dy + j * s.p + p, .ldb = s.p});
  for (std::int64_t v = 0; v < kVectors; ++v) {
    const std::int64_t at = p + v * lanes, left = width - at;
    VecF32 skip = hn::Zero(d), to_skip = hn::LoadU(d, to_d + at);
    if (scan.d != nullptr) {
      skip = scan.d_per_channel ? load_first(scan.d + head * width + at, left) : hn::Set(d, scan.d[head]);
    }
    for (std::int64_t r = 0; r < kRows; ++r) {
      const VecF32 x = load_first(task.in->x.row(first + j + r) + head * width + at, left);
      const VecF32 dy = hn::LoadU(d, s.dy + (j + r) * s.p + at);
      const VecF32 to_x = hn::MulAdd(hn::Set(d, s.dt[j + r]), sum.v[r][v], hn::Mul(skip, dy));
      float* to = task.gradients->x.row(first + j + r) + head * width + at;
      if (left >= lanes) {
        hn::StoreU(to_x, d, to);
      } else {
        store_part(to_x, to, static_cast<std::size_t>(left));
      }
      to_skip = hn::MulAdd(dy, x, to_skip);
      sum.v[r][v] = hn::Mul(sum.v[r][v], x);
    }
    hn::StoreU(to_skip, d, to_d + at);
  }
  for (std::int64_t r = 0; r < kRows; ++r) {
    VecF32 total = sum.v[r][0];
    for (std::int64_t v = 1; v < kVectors; ++v) total = hn::Add(total, sum.v[r][v]);
    s.to_step[j + r] += sum_lanes(total);
  }
}

// d dt / d raw of a chunk's rows: zero beyond the limits.
HWY_NOINLINE void ssd_backward_slopes(const SsdBackwardTask& task, std::int64_t head, std::int64_t first,
                                      std::int64_t rows, const SsdBackwardScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const SsdScan& scan = *task.scan;
  const float bias = scan.dt_bias == nullptr ? 0.0F : scan.dt_bias[head];
  for (std::int64_t j = 0; j < rows; ++j) s.slope[j] = task.in->dt.row(first + j)[head] + bias;
  std::fill(s.slope + rows, s.slope + whole_vectors(rows), 0.0F);
  for (std::int64_t j = 0; j < rows; j += lanes) {
    const VecF32 raw = hn::LoadU(d, s.slope + j), free = softplus_f32(raw);
    const auto within = hn::And(hn::Ge(free, hn::Set(d, scan.dt_low)), hn::Le(free, hn::Set(d, scan.dt_high)));
    hn::StoreU(hn::IfThenElseZero(within, sigmoid_f32(raw)), d, s.slope + j);
  }
}

// The gradients of dt, A and the bias, from the sums above.
HWY_NOINLINE void ssd_backward_steps(const SsdBackwardTask& task, std::int64_t head, std::int64_t first,
                                     std::int64_t rows, float whole, const SsdBackwardScratch& s) {
  ssd_backward_slopes(task, head, first, rows, s);
  // Of what enters after row j and of what left before it.
  float after = 0.0F, before = 0.0F;
  for (std::int64_t j = rows - 1; j >= 0; --j) {
    after += s.carried_out[j];
    s.crossing[j] += after + whole;
  }
  double to_a = 0.0, to_bias = 0.0;
  for (std::int64_t j = 0; j < rows; ++j) {
    const float exponent = s.crossing[j] + before;
    before += s.carried_in[j];
    const float to_raw = (s.to_step[j] + task.scan->a[head] * exponent) * s.slope[j];
    task.gradients->dt.row(first + j)[head] = to_raw;
    to_a += double{s.dt[j]} * exponent;
    to_bias += to_raw;
  }
  task.a[head] += static_cast<float>(to_a);
  task.dt_bias[head] += static_cast<float>(to_bias);
}

// One head and chunk; `before` is S, whose rows are whole vectors.
HWY_INLINE void ssd_backward_chunk(const SsdBackwardTask& task, std::int64_t head, std::int64_t first,
                                   std::int64_t rows, const float* before, const SsdChunkMatrices& shared,
                                   const SsdChunkMatrices& to_shared, const SsdBackwardScratch& s) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t states = task.scan->states, index = head - task.first_head;
  float* const carried = s.carried + index * states * s.p;
  const float decay = ssd_chunk_decays(*task.scan, task.in->dt, head, first, rows, s);
  ssd_backward_rows(task, head, first, rows, s);
  ssd_backward_inputs(task, first, rows, carried, s);
  ssd_backward_outer(states, rows, before, s.dy_transposed, s.from_start, shared.c, to_shared.c, s.carried_out, s);
  ssd_backward_outer(states, rows, carried, s.x_transposed, s.to_end, shared.b, to_shared.b, s.carried_in, s);
  const float whole = ssd_backward_state(task, rows, decay, shared.c, before, carried, s);
  std::fill_n(s.before_row, whole_vectors(rows), 0.0F);
  std::fill_n(s.to_step, rows, 0.0F);
  for_gemm_rows(rows, [&](auto block_rows, std::int64_t j) {
    constexpr std::int64_t kRows = decltype(block_rows)::value;
    const std::int64_t begin = j / lanes * lanes;
    for_gemm_columns(whole_vectors(rows) - begin, [&](auto vectors, std::int64_t i) {
      ssd_backward_weights<kRows, decltype(vectors)::value>(j, begin + i, rows, shared.bc, to_shared.bc, s);
    });
    ssd_backward_crossing(j, kRows, rows, s);
    for_gemm_columns(s.p, [&](auto vectors, std::int64_t p) {
      ssd_backward_outputs<kRows, decltype(vectors)::value>(task, head, first, rows, j, p, s.d + index * s.p, s);
    });
  });
  ssd_backward_steps(task, head, first, rows, whole, s);
}

void ssd_backward_task(const SsdBackwardTask& task, float* scratch) {
  const SsdScan& scan = *task.scan;
  const SsdBackwardScratch s = carve_ssd_backward_scratch(task, scratch);
  const std::int64_t width = scan.head_width, size = scan.states * width;
  for (std::int64_t row = 0; row < task.heads * scan.states; ++row) {
    float* to = s.carried + row * s.p;
    std::fill_n(to, s.p, 0.0F);
    if (task.state.final_state == nullptr) continue;
    std::copy_n(task.state.final_state + task.first_head * size + row * width, width, to);
  }
  std::fill_n(s.d, task.heads * s.p, 0.0F);
  const std::int64_t matrices = SsdChunkMatrices::floats(scan.states, s.q);
  for (std::int64_t chunk = (task.rows + scan.chunk - 1) / scan.chunk - 1; chunk >= 0; --chunk) {
    const std::int64_t done = chunk * scan.chunk, rows = std::min(scan.chunk, task.rows - done);
    const auto shared = SsdChunkMatrices::at(task.matrices + chunk * matrices, scan.states, s.q);
    float* const gradients = task.to_matrices + chunk * matrices;
    std::fill_n(gradients, matrices, 0.0F);
    const auto to_shared = SsdChunkMatrices::at(gradients, scan.states, s.q);
    for (std::int64_t head = task.first_head; head < task.first_head + task.heads; ++head) {
      const float* before = task.borders + (chunk * scan.heads + head) * size;
      if (s.p != width) {
        for (std::int64_t n = 0; n < scan.states; ++n) {
          std::fill_n(std::copy_n(before + n * width, width, s.before + n * s.p), s.p - width, 0.0F);
        }
        before = s.before;
      }
      ssd_backward_chunk(task, head, task.first_row + done, rows, before, shared, to_shared, s);
    }
  }
  for (std::int64_t row = 0; task.state.initial_state != nullptr && row < task.heads * scan.states; ++row) {
    std::copy_n(s.carried + row * s.p, width, task.state.initial_state + task.first_head * size + row * width);
  }
  for (std::int64_t i = 0; i < task.heads; ++i) {
    const std::int64_t head = task.first_head + i;
    float* const to = task.d + (scan.d_per_channel ? head * width : head);
    for (std::int64_t p = 0; p < width; ++p) to[scan.d_per_channel ? p : 0] += s.d[i * s.p + p];
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
