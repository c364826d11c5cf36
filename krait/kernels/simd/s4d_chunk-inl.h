// A chunk of S4D's scan on the way back, for one vector of channels (scan_s4d_backward.h). With the powers z^k of each
// state at hand its sums are polynomials of real coefficients: two multiply-adds a state and row each, four of them.
#if defined(KRAIT_KERNELS_SIMD_S4D_CHUNK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_S4D_CHUNK_INL_H_
#undef KRAIT_KERNELS_SIMD_S4D_CHUNK_INL_H_
#else
#define KRAIT_KERNELS_SIMD_S4D_CHUNK_INL_H_
#endif

#include "krait/kernels/simd/s4d_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

inline constexpr std::int64_t kSumsTogether = 2;  // states whose sums fit into registers
// States whose powers, each made of the one before it, hide each other's latency.
inline constexpr std::int64_t kChainsTogether = 4;
inline constexpr std::int64_t kLagsTogether = 6;
inline constexpr std::int64_t kPowers = kS4dChunk * kState;  // floats of a state

using ChunkRows = float[kS4dChunk + kLagsTogether][kLanes];

// out[l] += sum_k a[k] b[k + l] for l < rows; b has zeros behind its rows.
HWY_INLINE void add_correlation(const ChunkRows& a, const ChunkRows& b, std::int64_t rows, ChunkRows& out) {
  const F32 d;
  for (std::int64_t lag = 0; lag < rows; lag += kLagsTogether) {
    VecF32 sum[kLagsTogether], window[kLagsTogether];
    for (std::int64_t i = 0; i < kLagsTogether; ++i) {
      sum[i] = hn::Zero(d);
      window[i] = hn::Load(d, b[lag + i]);
    }
    for (std::int64_t k = 0; k < rows - lag; ++k) {
      const VecF32 factor = hn::Load(d, a[k]);
      for (std::int64_t i = 0; i < kLagsTogether; ++i) sum[i] = hn::MulAdd(factor, window[i], sum[i]);
      for (std::int64_t i = 0; i + 1 < kLagsTogether; ++i) window[i] = window[i + 1];
      window[kLagsTogether - 1] = hn::Load(d, b[k + lag + kLagsTogether]);
    }
    for (std::int64_t i = 0; i < kLagsTogether; ++i) {
      hn::Store(hn::Add(hn::Load(d, out[lag + i]), sum[i]), d, out[lag + i]);
    }
  }
}

// Rows of a chunk meet each other in sums that all states share, and a state's powers z^k are made once for all
// sequences of a task: no sum over rows waits for the one before it.
struct S4dChunk {
  alignas(64) ChunkRows kernel = {};       // of the task: Re sum_m w z^lag
  alignas(64) ChunkRows correlation = {};  // of the sequence: sum_t x[t - lag] dy[t], both in one chunk
  alignas(64) ChunkRows inputs, ups, dx = {};
  alignas(64) float growing_ups[kS4dChunk][kLanes];     // (k + 1) dy[k]
  alignas(64) float growing_inputs[kS4dChunk][kLanes];  // (k + 1) x[rows - 2 - k], 0 for the last k

  template <bool kWhole>
  HWY_INLINE void load(const S4dVector<kWhole>& at, RowsIn x, RowsIn dy, std::int64_t first, std::int64_t rows,
                       VecF32 skip, VecF32& dd) {
    const F32 d;
    VecF32 sum = hn::Zero(d);
    for (std::int64_t r = 0; r < rows; ++r) {
      const VecF32 input = at.load_row(x.row(first + r)), up = at.load_row(dy.row(first + r));
      hn::Store(input, d, inputs[r]);
      hn::Store(up, d, ups[r]);
      hn::Store(hn::Mul(skip, up), d, dx[r]);
      hn::Store(hn::Mul(hn::Set(d, static_cast<float>(r + 1)), up), d, growing_ups[r]);
      const std::int64_t k = rows - 2 - r;
      if (k >= 0) hn::Store(hn::Mul(hn::Set(d, static_cast<float>(k + 1)), input), d, growing_inputs[k]);
      sum = hn::MulAdd(input, up, sum);
    }
    hn::Store(hn::Zero(d), d, growing_inputs[rows - 1]);
    for (std::int64_t r = rows; r < rows + kLagsTogether; ++r) hn::Store(hn::Zero(d), d, ups[r]);
    dd = hn::Add(dd, sum);
  }
};

// What states [m, m + kCount) have of a chunk: sums over its rows k of z^k times dy[k], (k + 1) dy[k] and
// growing_inputs. Adds Re g z^k to dx of row rows - 1 - k.
template <std::int64_t kCount>
struct StateSums {
  ComplexF32 ups[kCount], growing_ups[kCount], growing_inputs[kCount];

  HWY_INLINE void sum(S4dChunk& chunk, std::int64_t rows, const float* powers, const ComplexF32 (&g)[kCount]) {
    const F32 d;
    const ComplexF32 zero = {hn::Zero(d), hn::Zero(d)};
    for (std::int64_t i = 0; i < kCount; ++i) ups[i] = growing_ups[i] = growing_inputs[i] = zero;
    for (std::int64_t k = 0; k < rows; ++k) {
      const VecF32 up = hn::Load(d, chunk.ups[k]), growing_up = hn::Load(d, chunk.growing_ups[k]);
      const VecF32 growing_input = hn::Load(d, chunk.growing_inputs[k]);
      VecF32 carried = hn::Load(d, chunk.dx[rows - 1 - k]);
      for (std::int64_t i = 0; i < kCount; ++i) {
        const ComplexF32 power = load_state(powers + i * kPowers, k);
        ups[i] = multiply_add(power, up, ups[i]);
        growing_ups[i] = multiply_add(power, growing_up, growing_ups[i]);
        growing_inputs[i] = multiply_add(power, growing_input, growing_inputs[i]);
        carried = hn::MulAdd(g[i].re, power.re, carried);
        carried = hn::NegMulAdd(g[i].im, power.im, carried);
      }
      hn::Store(carried, d, chunk.dx[rows - 1 - k]);
    }
  }
};

// The scratch of a vector of channels: what is conjugate in scan_s4d_backward.h is the conjugate here, g, dw and dz.
struct S4dScratch {
  float *z, *w;                  // [M, 2, lanes] each, as those that follow
  float* h;                      // of a border
  float *g, *dw, *dz_by_w, *dz;  // dz: w dz_by_w + dz
  float* powers;                 // [M, kS4dChunk, 2, lanes]

  S4dScratch(float* scratch, std::int64_t states) {
    for (float** part : {&z, &w, &h, &g, &dw, &dz_by_w, &dz, &powers}) {
      *part = scratch;
      scratch += states * kState;
    }
  }

  HWY_INLINE void fill_powers(std::int64_t states, std::int64_t rows, S4dChunk& chunk) const {
    const F32 d;
    for_states<kChainsTogether>(states, [&](auto count, std::int64_t m) HWY_ATTR {
      ComplexF32 decay[count], weight[count], power[count];
      for (std::int64_t i = 0; i < count; ++i) {
        decay[i] = load_state(z, m + i);
        weight[i] = load_state(w, m + i);
        power[i] = set_complex(1.0F, 0.0F);
      }
      for (std::int64_t k = 0; k < rows; ++k) {
        VecF32 sum = hn::Load(d, chunk.kernel[k]);
        for (std::int64_t i = 0; i < count; ++i) {
          store_state(power[i], powers + (m + i) * kPowers, k);
          sum = hn::Add(sum, (weight[i] * power[i]).re);
          power[i] = decay[i] * power[i];
        }
        hn::Store(sum, d, chunk.kernel[k]);
      }
    });
  }

  // Of T rows and its state h before them the chunk's share of the loss is the real part of
  //   F = w (h sum_k dy[k] z^(k+1) + sum_lag correlation[lag] z^lag) + g (h z^T + sum_k x[T-1-k] z^k)
  // with g from the chunk behind. Adds F's derivatives by w and z but for those of the correlation, and g becomes that
  // by h.
  template <std::int64_t kCount>
  HWY_INLINE void add_chunk(S4dChunk& chunk, std::int64_t rows, std::int64_t first_state) const {
    ComplexF32 behind[kCount];
    for (std::int64_t i = 0; i < kCount; ++i) behind[i] = load_state(g, first_state + i);
    StateSums<kCount> sums;
    sums.sum(chunk, rows, powers + first_state * kPowers, behind);
    for (std::int64_t i = 0; i < kCount; ++i) {
      const std::int64_t m = first_state + i;
      const ComplexF32 state = load_state(h, m), decay = load_state(z, m);
      const ComplexF32 last = load_state(powers + m * kPowers, rows - 1);  // z^(T-1)
      const ComplexF32 ups = decay * sums.ups[i];
      const ComplexF32 carried =
          multiply_add(hn::Set(F32(), static_cast<float>(rows)) * last, state, sums.growing_inputs[i]);
      store_state(multiply_add(state, ups, load_state(dw, m)), dw, m);
      store_state(multiply_add(state, sums.growing_ups[i], load_state(dz_by_w, m)), dz_by_w, m);
      store_state(multiply_add(behind[i], carried, load_state(dz, m)), dz, m);
      store_state(multiply_add(load_state(w, m), ups, behind[i] * (decay * last)), g, m);
    }
  }

  // The derivatives of the correlation, and the conjugates.
  HWY_INLINE void finish(std::int64_t states, std::int64_t rows, const S4dChunk& chunk) const {
    const F32 d;
    for_states<kChainsTogether>(states, [&](auto count, std::int64_t m) HWY_ATTR {
      ComplexF32 by_w[count], by_z[count], before[count];
      for (std::int64_t i = 0; i < count; ++i) {
        by_w[i] = load_state(dw, m + i);
        by_z[i] = load_state(dz_by_w, m + i);
        before[i] = {hn::Zero(d), hn::Zero(d)};
      }
      for (std::int64_t k = 0; k < rows; ++k) {
        const VecF32 correlation = hn::Load(d, chunk.correlation[k]);
        const VecF32 growing = hn::Mul(hn::Set(d, static_cast<float>(k)), correlation);
        for (std::int64_t i = 0; i < count; ++i) {
          const ComplexF32 power = load_state(powers + (m + i) * kPowers, k);
          by_w[i] = multiply_add(power, correlation, by_w[i]);
          by_z[i] = multiply_add(before[i], growing, by_z[i]);
          before[i] = power;
        }
      }
      for (std::int64_t i = 0; i < count; ++i) {
        store_state(conjugate(by_w[i]), dw, m + i);
        store_state(conjugate(multiply_add(load_state(w, m + i), by_z[i], load_state(dz, m + i))), dz, m + i);
        store_state(conjugate(load_state(g, m + i)), g, m + i);
      }
    });
  }
};

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
