// A task of trapezoidal_scan_backward: some heads of a group, sequence by sequence, chunk by chunk from the last to the
// first.
#if defined(KRAIT_KERNELS_SIMD_TRAPEZOIDAL_HEADS_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_HEADS_BACKWARD_INL_H_
#undef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_HEADS_BACKWARD_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRAPEZOIDAL_HEADS_BACKWARD_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/simd/trapezoidal_chunks_backward-inl.h"
#include "krait/kernels/simd/trapezoidal_rows_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

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
    gemm_product({1, s.p, states}, {key + r * states, 0}, {s.ds, s.p}, {dv, s.p});
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
