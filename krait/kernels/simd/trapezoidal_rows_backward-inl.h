// What a row of trapezoidal_scan_backward needs before and after the scan itself: norm, gate and sum over R of one
// head's outputs and the rotation of k and q, backwards; and, once all heads are done, norms and sizes.
#if defined(KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROWS_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROWS_BACKWARD_INL_H_
#undef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROWS_BACKWARD_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROWS_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "krait/kernels/scan_trapezoidal_backward_task.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"
#include "krait/kernels/simd/trapezoidal_rotation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// to[i] += v of vector i.
template <bool kWhole>
HWY_INLINE void add_to(VecF32 v, float* to, std::size_t part) {
  store<kWhole>(hn::Add(v, load<kWhole>(to, part)), to, part);
}

// One head and row. raw [R] rows of `stride`: S^T q_r, overwritten; value: v_r; g: what becomes the gradient of
// S^T q_r + D v_r. Writes that of z; adds to `sums` (TrapezoidalParameterColumns).
HWY_NOINLINE void trapezoidal_outputs_backward(const TrapezoidalBackwardTask& task, std::int64_t head, std::int64_t row,
                                               float* raw, const float* value, std::int64_t stride, float* g,
                                               float* sums) {
  const F32 d;
  const TrapezoidalScan& scan = *task.scan;
  const TrapezoidalParameterColumns columns(scan);
  const std::int64_t width = scan.head_width, own = head * scan.rank * width;
  const float* z = task.in->z.row(row) + head * width;
  const float* up = task.d_y.row(row) + head * width;
  float* dz = task.gradients->z.row(row) + head * width;
  const float* norm = scan.norm == nullptr ? nullptr : scan.norm + head * width;
  const VecF32 skip = hn::Set(d, scan.d[head]), one = hn::Set(d, 1.0F);
  for (std::int64_t r = 0; r < scan.rank; ++r, raw += stride, value += stride, g += stride) {
    const float* gate_mix = scan.gate_mix == nullptr ? nullptr : scan.gate_mix + own + r * width;
    const float* out_mix = scan.out_mix == nullptr ? nullptr : scan.out_mix + own + r * width;
    float* d_gate_mix = sums + columns.gate_mix + r * stride;
    float* d_out_mix = sums + columns.out_mix + r * stride;
    VecF32 squares = hn::Zero(d), along = hn::Zero(d);
    for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      const VecF32 v = hn::MulAdd(skip, load<kWhole>(value + p, part), load<kWhole>(raw + p, part));
      squares = hn::MulAdd(v, v, squares);
      store<kWhole>(v, raw + p, part);
    });
    float factor = 1.0F;
    if (norm != nullptr) factor = 1.0F / std::sqrt(sum_lanes(squares) / static_cast<float>(width) + scan.epsilon);
    const VecF32 factors = hn::Set(d, factor);
    for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      const VecF32 v = load<kWhole>(raw + p, part), dy = load<kWhole>(up + p, part), zp = load<kWhole>(z + p, part);
      const VecF32 normed = hn::Mul(v, factors);
      const VecF32 pre = norm == nullptr ? v : hn::Mul(normed, load<kWhole>(norm + p, part));
      const VecF32 in = gate_mix == nullptr ? zp : hn::Mul(zp, load<kWhole>(gate_mix + p, part));
      const VecF32 sigmoid = sigmoid_f32(in), gate = hn::Mul(in, sigmoid);
      const VecF32 d_out = out_mix == nullptr ? dy : hn::Mul(dy, load<kWhole>(out_mix + p, part));
      // silu' = sigmoid (1 + x (1 - sigmoid))
      const VecF32 slope = hn::Mul(sigmoid, hn::MulAdd(in, hn::Sub(one, sigmoid), one));
      const VecF32 d_in = hn::Mul(hn::Mul(d_out, pre), slope);
      VecF32 d_pre = hn::Mul(d_out, gate);
      VecF32 to_z = gate_mix == nullptr ? d_in : hn::Mul(d_in, load<kWhole>(gate_mix + p, part));
      if (r > 0) to_z = hn::Add(to_z, load<kWhole>(dz + p, part));
      store<kWhole>(to_z, dz + p, part);
      if (gate_mix != nullptr) add_to<kWhole>(hn::Mul(d_in, zp), d_gate_mix + p, part);
      if (out_mix != nullptr) add_to<kWhole>(hn::Mul(hn::Mul(dy, pre), gate), d_out_mix + p, part);
      if (norm != nullptr) {
        add_to<kWhole>(hn::Mul(d_pre, normed), sums + columns.norm + p, part);
        d_pre = hn::Mul(d_pre, load<kWhole>(norm + p, part));
        along = hn::MulAdd(d_pre, v, along);
      }
      store<kWhole>(d_pre, g + p, part);
    });
    if (norm != nullptr) {
      const VecF32 back = hn::Set(d, sum_lanes(along) * factor * factor * factor / static_cast<float>(width));
      for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
        constexpr bool kWhole = decltype(whole)::value;
        const VecF32 scaled = hn::Mul(load<kWhole>(g + p, part), factors);
        store<kWhole>(hn::NegMulAdd(back, load<kWhole>(raw + p, part), scaled), g + p, part);
      });
    }
    for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      add_to<kWhole>(hn::Mul(load<kWhole>(g + p, part), load<kWhole>(value + p, part)), sums + columns.d + p, part);
    });
  }
}

// a, b: gradients of a turned pair whose turned values are left, right. What they are before the turn; adds that of
// the angle to d_theta.
template <bool kWhole>
HWY_INLINE void turn_pairs_back(const TrapezoidalRotation& rotation, std::int64_t i, std::size_t count, VecF32 left,
                                VecF32 right, VecF32& a, VecF32& b, float* d_theta) {
  const VecF32 cosine = load<kWhole>(rotation.cosines + i, count), sine = load<kWhole>(rotation.sines + i, count);
  add_to<kWhole>(hn::NegMulAdd(a, right, hn::Mul(b, left)), d_theta + i, count);
  const VecF32 before = hn::MulAdd(b, sine, hn::Mul(a, cosine));
  b = hn::NegMulAdd(a, sine, hn::Mul(b, cosine));
  a = before;
}

// v [N]: k or q; g: its gradient, left as that of what was turned.
HWY_INLINE void trapezoidal_rotate_backward(const TrapezoidalScan& scan, const TrapezoidalRotation& rotation,
                                            const float* v, float* g, float* d_theta) {
  const F32 d;
  if (scan.halves) {
    const std::int64_t half = scan.states / 2;
    for_vectors(scan.angles, [&](auto whole, std::int64_t i, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 a = load<kWhole>(g + i, part), b = load<kWhole>(g + half + i, part);
      turn_pairs_back<kWhole>(rotation, i, part, load<kWhole>(v + i, part), load<kWhole>(v + half + i, part), a, b,
                              d_theta);
      store<kWhole>(a, g + i, part);
      store<kWhole>(b, g + half + i, part);
    });
    return;
  }
  constexpr auto lanes = static_cast<std::int64_t>(kLanes);
  std::int64_t i = 0;
  for (; i + lanes <= scan.angles; i += lanes) {
    VecF32 a, b, left, right;
    hn::LoadInterleaved2(d, g + 2 * i, a, b);
    hn::LoadInterleaved2(d, v + 2 * i, left, right);
    turn_pairs_back<true>(rotation, i, kLanes, left, right, a, b, d_theta);
    hn::StoreInterleaved2(a, b, d, g + 2 * i);
  }
  for (; i < scan.angles; ++i) {
    const float a = g[2 * i], b = g[2 * i + 1], cosine = rotation.cosines[i], sine = rotation.sines[i];
    d_theta[i] += b * v[2 * i] - a * v[2 * i + 1];
    g[2 * i] = a * cosine + b * sine;
    g[2 * i + 1] = b * cosine - a * sine;
  }
}

// Gradients of `from` [N] and of the norm's weight (added to) from `up`, that of rms(from) weight.
HWY_INLINE void trapezoidal_norm_backward(const float* from, const float* weight, const float* up, std::int64_t count,
                                          float epsilon, float* to, float* d_weight) {
  const F32 d;
  VecF32 squares = hn::Zero(d), along = hn::Zero(d);
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 v = load<kWhole>(from + i, part);
    squares = hn::MulAdd(v, v, squares);
    along = hn::MulAdd(hn::Mul(load<kWhole>(up + i, part), load<kWhole>(weight + i, part)), v, along);
  });
  const float factor = 1.0F / std::sqrt(sum_lanes(squares) / static_cast<float>(count) + epsilon);
  // Factor by factor: none of the products on the way is out of range.
  const VecF32 factors = hn::Set(d, factor);
  const VecF32 back = hn::Set(d, sum_lanes(along) * factor / static_cast<float>(count) * factor * factor);
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 v = load<kWhole>(from + i, part), g = load<kWhole>(up + i, part);
    add_to<kWhole>(hn::Mul(hn::Mul(g, v), factors), d_weight + i, part);
    const VecF32 scaled = hn::Mul(hn::Mul(g, load<kWhole>(weight + i, part)), factors);
    store<kWhole>(hn::NegMulAdd(back, v, scaled), to + i, part);
  });
}

// dt, a and trap of a row from the gradients of its sizes.
HWY_INLINE void trapezoidal_sizes_backward(const TrapezoidalRowsBackward& rows, std::int64_t row) {
  const F32 d;
  const TrapezoidalScan& scan = *rows.scan;
  const TrapezoidalSizeColumns columns(scan);
  const TrapezoidalInputs& in = *rows.in;
  const float* const up = rows.sizes.row(row);
  const float* const dts = rows.prepared.row(row) + TrapezoidalColumns(scan).dt;
  const VecF32 one = hn::Set(d, 1.0F), floor = hn::Set(d, scan.decay_floor);
  for_vectors(scan.heads, [&](auto whole, std::int64_t h, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 d_log = load<kWhole>(up + columns.log_decay + h, part);
    const VecF32 d_shift = load<kWhole>(up + columns.shift + h, part);
    const VecF32 d_gamma = load<kWhole>(up + columns.gamma + h, part);
    const VecF32 dt = load<kWhole>(dts + h, part), u = load<kWhole>(in.a.row(row) + h, part);
    const VecF32 trap = load<kWhole>(in.trap.row(row) + h, part);
    const VecF32 l = sigmoid_f32(trap), rest = sigmoid_f32(hn::Neg(trap));  // 1 - l
    const VecF32 inverse = hn::Div(one, hn::Sub(one, u));
    const auto below = hn::Lt(u, hn::Zero(d));
    const VecF32 f = hn::IfThenElse(below, inverse, hn::Add(one, u));
    const VecF32 slope = hn::IfThenElseZero(hn::Gt(f, floor), hn::IfThenElse(below, hn::Mul(inverse, inverse), one));
    VecF32 d_dt = hn::NegMulAdd(d_log, at_least(floor, f), load<kWhole>(up + columns.dt + h, part));
    d_dt = hn::MulAdd(d_gamma, l, hn::MulAdd(d_shift, rest, d_dt));
    store<kWhole>(hn::Neg(hn::Mul(hn::Mul(d_log, dt), slope)), rows.gradients->a.row(row) + h, part);
    store<kWhole>(hn::Mul(hn::Mul(hn::Sub(d_gamma, d_shift), dt), hn::Mul(l, rest)), rows.gradients->trap.row(row) + h,
                  part);
    const VecF32 raw = hn::Add(load<kWhole>(in.dt.row(row) + h, part), load<kWhole>(scan.dt_bias + h, part));
    const VecF32 d_raw = hn::Mul(d_dt, sigmoid_f32(raw));
    store<kWhole>(d_raw, rows.gradients->dt.row(row) + h, part);
    add_to<kWhole>(d_raw, rows.dt_bias + h, part);
  });
}

void trapezoidal_rows_backward(const TrapezoidalRowsBackward& rows) {
  const F32 d;
  const TrapezoidalScan& scan = *rows.scan;
  const TrapezoidalSharedColumns columns(scan);
  const std::int64_t turn = TrapezoidalColumns(scan).turn, states = scan.states;
  std::fill_n(rows.dt_bias, trapezoidal_padded(scan.heads), 0.0F);
  std::fill_n(rows.b_norm, trapezoidal_padded(states), 0.0F);
  std::fill_n(rows.c_norm, trapezoidal_padded(states), 0.0F);
  // Into the first block's row: [count] floats of it.
  const auto gather = [&](std::int64_t row, std::int64_t block, std::int64_t blocks, std::int64_t at,
                          std::int64_t count) {
    float* const sum = rows.shared[block].row(row) + at;
    for (std::int64_t i = block + 1; i < block + blocks; ++i) {
      const float* const from = rows.shared[i].row(row) + at;
      for_vectors(count, [&](auto whole, std::int64_t j, std::size_t part) {
        constexpr bool kWhole = decltype(whole)::value;
        add_to<kWhole>(load<kWhole>(from + j, part), sum + j, part);
      });
    }
    return sum;
  };
  for (std::int64_t row = rows.first; row < rows.end; ++row) {
    trapezoidal_sizes_backward(rows, row);
    for (std::int64_t g = 0; g < scan.groups; ++g) {
      const float* const b = gather(row, g * rows.blocks, rows.blocks, columns.b, scan.rank * states);
      const float* const c = gather(row, g * rows.blocks, rows.blocks, columns.c, scan.rank * states);
      for (std::int64_t r = 0; r < scan.rank; ++r) {
        const std::int64_t at = (r * scan.groups + g) * states;
        trapezoidal_norm_backward(rows.in->b.row(row) + at, scan.b_norm, b + r * states, states, scan.epsilon,
                                  rows.gradients->b.row(row) + at, rows.b_norm);
        trapezoidal_norm_backward(rows.in->c.row(row) + at, scan.c_norm, c + r * states, states, scan.epsilon,
                                  rows.gradients->c.row(row) + at, rows.c_norm);
      }
    }
    const float* const up = gather(row, 0, scan.groups * rows.blocks, columns.turn, scan.angles);
    for_vectors(scan.angles, [&](auto whole, std::int64_t i, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      // pi (1 - tanh^2)
      const VecF32 tanh = hn::Mul(load<kWhole>(rows.prepared.row(row) + turn + i, part), hn::Set(d, 0.318309886F));
      const VecF32 slope = hn::Mul(hn::Set(d, 3.14159265F), hn::NegMulAdd(tanh, tanh, hn::Set(d, 1.0F)));
      store<kWhole>(hn::Mul(slope, load<kWhole>(up + i, part)), rows.gradients->angle.row(row) + i, part);
    });
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
