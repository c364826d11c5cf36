// Several rows of trapezoidal_scan, chunk by chunk in matrix form. Index m runs over the rows t of the chunk and,
// within each, over R. With cum_t = sum_{i<=t} A_i dt_i, s_t = (1 - l_t) dt_t and c_t = gamma_t + s_{t+1} (c of the
// last row: gamma alone), first S += s_0 sum_r k_prev v_prev^T, then
//   Y_m = exp(cum_t) S^T q_m + sum_{m'} w(m, m') (q_m . k_m') v_m',
//         w = c_t' exp(cum_t - cum_t') for t' < t, gamma_t for t' = t, 0 after
//   S = exp(cum_T) S + sum_m' c_t' exp(cum_T - cum_t') k_m' v_m'^T
// Exponents are in units of ln 2.
#if defined(KRAIT_KERNELS_SIMD_TRAPEZOIDAL_CHUNKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_CHUNKS_INL_H_
#undef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_CHUNKS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRAPEZOIDAL_CHUNKS_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "krait/kernels/simd/gemm-inl.h"
#include "krait/kernels/simd/state-inl.h"
#include "krait/kernels/simd/trapezoidal_rotation-inl.h"
#include "krait/kernels/simd/trapezoidal_rows-inl.h"
#include "krait/kernels/simd/trapezoidal_sizes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Scratch of one task, carved from one allocation. M: rows of a chunk times R; M, P and T padded to whole vectors.
struct TrapezoidalScratch {
  TrapezoidalRotation rotation;  // [angles], of N floats each
  TrapezoidalSizes sizes;
  float* key;         // [N]: one k before it is transposed
  float* query;       // [M, N]
  float* keys;        // [N, M]
  float* value;       // [M, P]
  float* ended;       // [M, P]: v times to_end
  float* y;           // [M, P]
  float* weights;     // [kGemmRows, M]
  float* state;       // [N, P]
  std::int64_t m, p;  // M and P padded
};

HWY_INLINE TrapezoidalScratch carve_trapezoidal_scratch(const TrapezoidalScan& scan, float* from) {
  const auto take = [&](std::int64_t count) { return std::exchange(from, from + trapezoidal_padded(count)); };
  const std::int64_t rows = scan.chunk_rows(), states = scan.states;
  TrapezoidalScratch s{};
  s.m = trapezoidal_padded(rows * scan.rank);
  s.p = trapezoidal_padded(scan.head_width);
  for (float** piece : {&s.rotation.cosines, &s.rotation.sines, &s.key}) *piece = take(states);
  for (float** piece : s.sizes.all()) *piece = take(rows);
  s.query = take(s.m * states);
  s.keys = take(states * s.m);
  for (float** piece : {&s.value, &s.ended, &s.y}) *piece = take(s.m * s.p);
  s.weights = take(kGemmRows * s.m);
  s.state = take(states * s.p);
  return s;
}

// q, k (transposed), v and v to the chunk's end of all m; leaves the last row's k and x in the state.
HWY_NOINLINE void trapezoidal_chunk_inputs(const TrapezoidalTask& task, std::int64_t head, std::int64_t first,
                                           std::int64_t rows, const TrapezoidalScratch& s) {
  const F32 d;
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalColumns columns(scan);
  const std::int64_t rank = scan.rank, states = scan.states, width = scan.head_width;
  const float* mix = task.mix(scan.value_mix, head);
  float* const last_key = task.head_key(head);
  for (std::int64_t t = 0; t < rows; ++t) {
    const float* row = task.prepared.row(first + t);
    trapezoidal_turn(scan, row + columns.turn, row[columns.dt + head], task.head_angles(head), s.rotation);
    const float* x = task.in->x.row(first + t) + head * width;
    const VecF32 end = hn::Set(d, s.sizes.to_end[t]);
    for (std::int64_t r = 0; r < rank; ++r) {
      const std::int64_t m = t * rank + r;
      const std::int64_t shared = (r * scan.groups + task.group(head)) * states, own = (head * rank + r) * states;
      trapezoidal_rotate(scan, row + columns.c + shared, scan.c_bias + own, s.rotation, s.query + m * states);
      trapezoidal_rotate(scan, row + columns.b + shared, scan.b_bias + own, s.rotation, s.key);
      for (std::int64_t n = 0; n < states; ++n) s.keys[n * s.m + m] = s.key[n];
      if (t + 1 == rows) std::copy_n(s.key, states, last_key + r * states);
      for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
        constexpr bool kWhole = decltype(whole)::value;
        VecF32 v = load<kWhole>(x + p, part);
        if (mix != nullptr) v = hn::Mul(v, load<kWhole>(mix + r * width + p, part));
        hn::StoreU(v, d, s.value + m * s.p + p);
        hn::StoreU(hn::Mul(v, end), d, s.ended + m * s.p + p);
      });
    }
    if (t + 1 == rows) std::copy_n(x, width, task.head_value(head));
  }
}

// S += s_0 sum_r k_prev,r v_prev,r^T: what the step before left to this one.
HWY_NOINLINE void trapezoidal_chunk_pending(const TrapezoidalTask& task, std::int64_t head, std::int64_t first,
                                            const TrapezoidalScratch& s, float* state) {
  const F32 d;
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalColumns columns(scan);
  const std::int64_t width = scan.head_width;
  const VecF32 shift = hn::Set(d, task.prepared.row(first)[columns.shift + head]);
  const float* key = task.head_key(head);
  const float* last = task.head_value(head);
  const float* mix = task.mix(scan.value_mix, head);
  for (std::int64_t r = 0; r < scan.rank; ++r) {
    for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 v = hn::Mul(shift, load<kWhole>(last + p, part));
      if (mix != nullptr) v = hn::Mul(v, load<kWhole>(mix + r * width + p, part));
      for (std::int64_t n = 0; n < scan.states; ++n) {
        float* const to = state + n * s.p + p;
        hn::StoreU(hn::MulAdd(hn::Set(d, key[r * scan.states + n]), v, hn::LoadU(d, to)), d, to);
      }
    });
  }
}

// What trapezoidal_scan_backward begins this chunk from.
HWY_NOINLINE void trapezoidal_chunk_save(const TrapezoidalTask& task, std::int64_t head, std::int64_t chunk,
                                         const TrapezoidalScratch& s, const float* state) {
  const TrapezoidalScan& scan = *task.scan;
  float* const to = task.saved_state(chunk, head);
  for (std::int64_t n = 0; n < scan.states; ++n) {
    std::copy_n(state + n * s.p, scan.head_width, to + n * scan.head_width);
  }
  std::copy_n(task.head_angles(head), scan.angles, task.saved_angles(chunk, head));
}

// Rows m … m + count of w(m, m') (q_m . k_m'), zero after t. The exponent of what lies after may be anything, so it is
// cut off after the exponential.
template <std::int64_t kRows>
HWY_NOINLINE void trapezoidal_chunk_weights(const TrapezoidalScan& scan, std::int64_t m, std::int64_t end,
                                            const TrapezoidalScratch& s) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const F32 d;
  for_gemm_columns((end + lanes - 1) / lanes * lanes, [&](auto vectors, std::int64_t j) {
    GemmBlock<kRows, decltype(vectors)::value> sum;
    sum.clear();
    sum.accumulate({.k = scan.states,
                    .a = s.query + m * scan.states,
                    .a_row = scan.states,
                    .a_column = 1,
                    .b = s.keys + j,
                    .ldb = s.m});
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t v = 0; v < decltype(vectors)::value; ++v) {
        hn::StoreU(sum.v[r][v], d, s.weights + r * s.m + j + v * lanes);
      }
    }
  });
  HWY_ALIGN float factor[64];
  for (std::int64_t r = 0; r < kRows; ++r) {
    const std::int64_t t = (m + r) / scan.rank;
    float* const weights = s.weights + r * s.m;
    const VecF32 high = hn::Set(d, s.sizes.high[t]), low = hn::Set(d, s.sizes.low[t]);
    for (std::int64_t from = 0; from < t; from += 64) {
      const std::int64_t count = std::min<std::int64_t>(64, t - from);
      for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
        constexpr bool kWhole = decltype(whole)::value;
        VecF32 w[1] = {hn::Add(hn::Sub(high, load<kWhole>(s.sizes.high + from + i, part)),
                               hn::Sub(low, load<kWhole>(s.sizes.low + from + i, part)))};
        exp2_f32(w);
        store<kWhole>(hn::Mul(w[0], load<kWhole>(s.sizes.carry + from + i, part)), factor + i, part);
      });
      for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t k = 0; k < scan.rank; ++k) weights[(from + i) * scan.rank + k] *= factor[i];
      }
    }
    for (std::int64_t k = 0; k < scan.rank; ++k) weights[t * scan.rank + k] *= s.sizes.gamma[t];
    std::fill(weights + (t + 1) * scan.rank, weights + std::max(end, (t + 1) * scan.rank), 0.0F);
  }
}

// Y of rows m … m + kRows: what the state brings, and what the chunk adds.
template <std::int64_t kRows>
HWY_NOINLINE void trapezoidal_chunk_rows_of_y(const TrapezoidalScan& scan, std::int64_t m, std::int64_t count,
                                              const float* state, const TrapezoidalScratch& s) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const F32 d;
  // To the end of the last row's R.
  const std::int64_t end = std::min(count, ((m + kRows - 1) / scan.rank + 1) * scan.rank);
  trapezoidal_chunk_weights<kRows>(scan, m, end, s);
  for_gemm_columns(s.p, [&](auto vectors, std::int64_t p) {
    constexpr std::int64_t kVectors = decltype(vectors)::value;
    GemmBlock<kRows, kVectors> sum;
    sum.clear();
    sum.accumulate({.k = scan.states,
                    .a = s.query + m * scan.states,
                    .a_row = scan.states,
                    .a_column = 1,
                    .b = state + p,
                    .ldb = s.p});
    for (std::int64_t r = 0; r < kRows; ++r) {
      const VecF32 decay = hn::Set(d, s.sizes.from_start[(m + r) / scan.rank]);
      for (std::int64_t v = 0; v < kVectors; ++v) sum.v[r][v] = hn::Mul(decay, sum.v[r][v]);
    }
    sum.accumulate({.k = end, .a = s.weights, .a_row = s.m, .a_column = 1, .b = s.value + p, .ldb = s.p});
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t v = 0; v < kVectors; ++v) hn::StoreU(sum.v[r][v], d, s.y + (m + r) * s.p + p + v * lanes);
    }
  });
}

// S = carried S + keys ended
HWY_NOINLINE void trapezoidal_chunk_state(const TrapezoidalScan& scan, std::int64_t count, float carried,
                                          const TrapezoidalScratch& s, float* state) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  for_gemm_rows(scan.states, [&](auto block_rows, std::int64_t n) {
    for_gemm_columns(s.p, [&](auto vectors, std::int64_t p) {
      constexpr std::int64_t kRows = decltype(block_rows)::value, kVectors = decltype(vectors)::value;
      GemmBlock<kRows, kVectors> sum;
      for (std::int64_t r = 0; r < kRows; ++r) {
        for (std::int64_t v = 0; v < kVectors; ++v) {
          sum.v[r][v] = hn::Mul(hn::Set(d, carried), hn::LoadU(d, state + (n + r) * s.p + p + v * lanes));
        }
      }
      sum.accumulate({.k = count, .a = s.keys + n * s.m, .a_row = s.m, .a_column = 1, .b = s.ended + p, .ldb = s.p});
      for (std::int64_t r = 0; r < kRows; ++r) {
        for (std::int64_t v = 0; v < kVectors; ++v) {
          hn::StoreU(sum.v[r][v], d, state + (n + r) * s.p + p + v * lanes);
        }
      }
    });
  });
}

// Floats of scratch that a task needs: what carve_trapezoidal_scratch hands out.
std::int64_t trapezoidal_chunks_scratch(const TrapezoidalScan& scan) {
  const std::int64_t rows = scan.chunk_rows(), states = scan.states;
  const std::int64_t m = trapezoidal_padded(rows * scan.rank), p = trapezoidal_padded(scan.head_width);
  return 3 * trapezoidal_padded(states) + 6 * trapezoidal_padded(rows) + 2 * m * states + 3 * m * p + kGemmRows * m +
         states * p;
}

void trapezoidal_chunks(const TrapezoidalTask& task, float* scratch) {
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalScratch s = carve_trapezoidal_scratch(scan, scratch);
  // Columns past P and products past M are computed and not used, but must be numbers.
  std::fill(scratch, scratch + trapezoidal_chunks_scratch(scan), 0.0F);
  const TrapezoidalColumns columns(scan);
  const std::int64_t chunk = scan.chunk_rows();
  for (std::int64_t head = task.first_head; head < task.first_head + task.heads; ++head) {
    std::byte* const stored = task.head_state(head);
    std::byte* const scales = task.head_scales(head);
    const bool in_place = scan.state_dtype == DType::kF32 && s.p == scan.head_width;
    float* const state = in_place ? reinterpret_cast<float*>(stored) : s.state;
    if (!in_place) {
      with_state_type(scan.state_dtype, [&](auto type) {
        widen_state<decltype(type)>(stored, scales, scan.states, scan.head_width, state, s.p);
      });
    }
    for (std::int64_t done = 0; done < task.rows; done += chunk) {
      const std::int64_t rows = std::min(chunk, task.rows - done), count = rows * scan.rank;
      const std::int64_t first = task.first_row + done;
      trapezoidal_chunk_pending(task, head, first, s, state);
      if (task.saved.s != nullptr) trapezoidal_chunk_save(task, head, done / chunk, s, state);
      const float carried = trapezoidal_chunk_sizes(task.prepared, columns, head, first, rows, rows, s.sizes);
      trapezoidal_chunk_inputs(task, head, first, rows, s);
      for_gemm_rows(count, [&](auto block_rows, std::int64_t m) {
        trapezoidal_chunk_rows_of_y<decltype(block_rows)::value>(scan, m, count, state, s);
      });
      trapezoidal_chunk_state(scan, count, carried, s, state);
      for (std::int64_t t = 0; t < rows; ++t) {
        trapezoidal_outputs(task, head, first + t, s.y + t * scan.rank * s.p, s.p);
      }
    }
    if (!in_place) {
      with_state_type(scan.state_dtype, [&](auto type) {
        narrow_state<decltype(type)>(state, s.p, scan.states, scan.head_width, stored, scales);
      });
    }
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
