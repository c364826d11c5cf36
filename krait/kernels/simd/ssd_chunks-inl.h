// Several rows of ssd_scan, chunk by chunk in matrix form. With cum_i = sum_{j<=i} dt_j A within a chunk of Q rows,
// X' = dt_j x_j and X'' = exp(cum_Q - cum_j) X':
//   Y = diag(exp(cum)) (C S) + ((C B^T) o exp(cum_i - cum_j) [j <= i]) X' + D X,    S = exp(cum_Q) S + B^T X''
// All factors of a head stand on the operands of width P or on the results: C and B, the wide ones, are used as they
// are by all heads of a group. Exponents are kept in units of ln 2.
#if defined(KRAIT_KERNELS_SIMD_SSD_CHUNKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_SSD_CHUNKS_INL_H_
#undef KRAIT_KERNELS_SIMD_SSD_CHUNKS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_SSD_CHUNKS_INL_H_
#endif

#include <algorithm>
#include <type_traits>
#include <utility>

#include "krait/kernels/scan_ssd_task.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/gemm-inl.h"
#include "krait/kernels/simd/ssd_decays-inl.h"
#include "krait/kernels/simd/state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// cb[i, j] = C_i . B_j for j <= i of one chunk (more is written, and ignored); `transposed` [N, Q] becomes B^T, zero
// past the chunk's rows. Q is the stride here: ssd_padded(chunk).
void ssd_chunk_products(RowsIn b, RowsIn c, std::int64_t states, float* transposed, float* cb, std::int64_t q) {
  const std::int64_t rows = b.rows;
  for (std::int64_t j = 0; j < rows; ++j) {
    for (std::int64_t n = 0; n < states; ++n) transposed[n * q + j] = b.row(j)[n];
  }
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  for (std::int64_t n = 0; n < states; ++n) {
    std::fill(transposed + n * q + rows, transposed + n * q + (rows + lanes - 1) / lanes * lanes, 0.0F);
  }
  for_gemm_rows(rows, [&](auto block_rows, std::int64_t i) {
    constexpr std::int64_t kRows = decltype(block_rows)::value;
    // Only to the block's last row: most of the upper triangle is never computed.
    for_gemm_columns((i + kRows + lanes - 1) / lanes * lanes, [&](auto vectors, std::int64_t j) {
      GemmBlock<kRows, decltype(vectors)::value> sum;
      sum.clear();
      sum.accumulate({.k = states, .a = c.row(i), .a_row = c.stride, .a_column = 1, .b = transposed + j, .ldb = q});
      for (std::int64_t r = 0; r < kRows; ++r) {
        for (std::int64_t v = 0; v < decltype(vectors)::value; ++v) {
          hn::StoreU(sum.v[r][v], F32(), cb + (i + r) * q + j + v * lanes);
        }
      }
    });
  });
}

// Scratch of one task, carved from one allocation; each piece padded to whole vectors.
struct SsdScratch : SsdDecays {
  float* weights;           // [kGemmRows, Q]
  float *x_dt, *x_end, *y;  // [Q, P]: X', X'', diag(exp(cum)) (C S)
  float* state;             // [N, P], where the stored one cannot be worked on
  std::int64_t q, p;        // Q and P rounded up
};

HWY_INLINE SsdScratch carve_ssd_scratch(const SsdScan& scan, float* from) {
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  SsdScratch s{};
  s.q = ssd_padded(scan.chunk);
  s.p = (scan.head_width + lanes - 1) / lanes * lanes;
  const auto take = [&](std::int64_t count) { return std::exchange(from, from + count); };
  for (float** piece : {&s.dt, &s.high, &s.low, &s.from_start, &s.to_end}) *piece = take(s.q);
  s.weights = take(kGemmRows * s.q);
  s.x_dt = take(s.q * s.p);
  s.x_end = take(s.q * s.p);
  s.y = take(s.q * s.p);
  s.state = take(scan.states * s.p);
  return s;
}

// X' and X'' of one head, columns past P zero.
HWY_NOINLINE void ssd_chunk_inputs(const SsdTask& task, std::int64_t head, std::int64_t first, std::int64_t rows,
                                   const SsdScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t width = task.scan->head_width;
  for (std::int64_t j = 0; j < rows; ++j) {
    const float* x = task.x.row(first + j) + head * width;
    const VecF32 dt = hn::Set(d, s.dt[j]), end = hn::Set(d, s.to_end[j]);
    for (std::int64_t p = 0; p < s.p; p += lanes) {
      const VecF32 v = p + lanes <= width ? hn::LoadU(d, x + p) : load_part(x + p, static_cast<std::size_t>(width - p));
      const VecF32 scaled = hn::Mul(dt, v);
      hn::StoreU(scaled, d, s.x_dt + j * s.p + p);
      hn::StoreU(hn::Mul(end, scaled), d, s.x_end + j * s.p + p);
    }
  }
}

// Rows i … i + count of (C B^T) o exp(cum_i - cum_j), zero above the diagonal. The exponent of what lies above may be
// anything, so it is cut off after the exponential.
HWY_NOINLINE void ssd_chunk_weights(const float* cb, std::int64_t i, std::int64_t count, const SsdScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  for (std::int64_t r = 0; r < count; ++r) {
    const VecF32 high = hn::Set(d, s.high[i + r]), low = hn::Set(d, s.low[i + r]);
    for (std::int64_t j = 0; j < i + count; j += lanes) {
      VecF32 w[1] = {hn::Add(hn::Sub(high, hn::LoadU(d, s.high + j)), hn::Sub(low, hn::LoadU(d, s.low + j)))};
      exp2_f32(w);
      const auto below = static_cast<std::size_t>(std::max<std::int64_t>(0, i + r + 1 - j));
      const VecF32 product = hn::Mul(w[0], hn::LoadU(d, cb + (i + r) * s.q + j));
      hn::StoreU(hn::IfThenElseZero(hn::FirstN(d, below), product), d, s.weights + r * s.q + j);
    }
  }
}

// diag(exp(cum)) (C S) of rows i … i + kRows and columns p … of one head, into s.y. By itself, so that S stays in the
// first cache for all rows of the chunk: S, X' and Y together would not fit there.
template <std::int64_t kRows, std::int64_t kVectors>
HWY_NOINLINE void ssd_chunk_carried(const SsdTask& task, std::int64_t head, std::int64_t first, std::int64_t i,
                                    std::int64_t p, const float* state, const SsdScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const SsdScan& scan = *task.scan;
  // The next passes read these lines of x and write those of y, 256 bytes a row: too short for the prefetchers.
  for (std::int64_t r = 0; r < kRows; ++r) {
    const std::int64_t at = head * scan.head_width + p;
    for (std::int64_t v = 0; v < kVectors; v += 16 / lanes) {
      __builtin_prefetch(task.x.row(first + i + r) + at + v * lanes, 0);
      __builtin_prefetch(task.y.row(first + i + r) + at + v * lanes, 1);
    }
  }
  GemmBlock<kRows, kVectors> sum;
  sum.clear();
  sum.accumulate({.k = scan.states,
                  .a = task.c.row(first + i) + task.group(head) * scan.states,
                  .a_row = task.c.stride,
                  .a_column = 1,
                  .b = state + p,
                  .ldb = s.p});
  for (std::int64_t r = 0; r < kRows; ++r) {
    const VecF32 factor = hn::Set(d, s.from_start[i + r]);
    for (std::int64_t v = 0; v < kVectors; ++v) {
      hn::StoreU(hn::Mul(factor, sum.v[r][v]), d, s.y + (i + r) * s.p + p + v * lanes);
    }
  }
}

// y of the same: what is within the chunk, and D x.
template <std::int64_t kRows, std::int64_t kVectors>
HWY_NOINLINE void ssd_chunk_outputs(const SsdTask& task, std::int64_t head, std::int64_t first, std::int64_t i,
                                    std::int64_t p, const SsdScratch& s) {
  const F32 d;
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  const SsdScan& scan = *task.scan;
  const std::int64_t width = scan.head_width;
  GemmBlock<kRows, kVectors> sum;
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v) sum.v[r][v] = hn::LoadU(d, s.y + (i + r) * s.p + p + v * lanes);
  }
  sum.accumulate({.k = i + kRows, .a = s.weights, .a_row = s.q, .a_column = 1, .b = s.x_dt + p, .ldb = s.p});
  const float* skip = task.head_d(head);
  for (std::int64_t r = 0; r < kRows; ++r) {
    const float* x = task.x.row(first + i + r) + head * width + p;
    float* y = task.y.row(first + i + r) + head * width + p;
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const std::int64_t at = v * lanes;
      const bool whole = p + at + lanes <= width;
      const auto rest = static_cast<std::size_t>(width - p - at);
      if (skip != nullptr) {
        VecF32 factor = hn::Set(d, skip[0]);
        if (scan.d_per_channel) factor = whole ? hn::LoadU(d, skip + p + at) : load_part(skip + p + at, rest);
        sum.v[r][v] = hn::MulAdd(factor, whole ? hn::LoadU(d, x + at) : load_part(x + at, rest), sum.v[r][v]);
      }
      if (whole) {
        hn::StoreU(sum.v[r][v], d, y + at);
      } else {
        store_part(sum.v[r][v], y + at, rest);
      }
    }
  }
}

void ssd_chunks(const SsdTask& task, float* scratch) {
  const SsdScan& scan = *task.scan;
  const SsdScratch s = carve_ssd_scratch(scan, scratch);
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
    std::int64_t chunk = task.group(head) * task.chunk_count + task.first_chunk;
    for (std::int64_t done = 0; done < task.rows; done += scan.chunk, ++chunk) {
      const std::int64_t rows = std::min(scan.chunk, task.rows - done);
      const std::int64_t first = task.first_row + done;
      const float* cb = task.cb + chunk * s.q * s.q;
      if (task.borders != nullptr) {
        float* to = task.borders + (done / scan.chunk * scan.heads + head) * scan.states * scan.head_width;
        for (std::int64_t n = 0; n < scan.states; ++n) {
          std::copy_n(state + n * s.p, scan.head_width, to + n * scan.head_width);
        }
      }
      const float carried = ssd_chunk_decays(scan, task.dt, head, first, rows, s);
      for_gemm_rows(rows, [&](auto block_rows, std::int64_t i) {
        for_gemm_columns(s.p, [&](auto vectors, std::int64_t p) {
          ssd_chunk_carried<decltype(block_rows)::value, decltype(vectors)::value>(task, head, first, i, p, state, s);
        });
      });
      ssd_chunk_inputs(task, head, first, rows, s);
      for_gemm_rows(rows, [&](auto block_rows, std::int64_t i) {
        constexpr std::int64_t kRows = decltype(block_rows)::value;
        ssd_chunk_weights(cb, i, kRows, s);
        for_gemm_columns(s.p, [&](auto vectors, std::int64_t p) {
          ssd_chunk_outputs<kRows, decltype(vectors)::value>(task, head, first, i, p, s);
        });
      });
      // S = carried S + B^T X''.
      const float* b_transposed = task.b_transposed + chunk * scan.states * s.q;
      gemm_update(scan.states, s.p,
                  {.k = rows, .a = b_transposed, .a_row = s.q, .a_column = 1, .b = s.x_end, .ldb = s.p}, carried, state,
                  s.p);
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
