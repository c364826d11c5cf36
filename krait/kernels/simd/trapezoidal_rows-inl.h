// What a row of trapezoidal_scan needs before and after the recurrence: sizes and norms that all heads share, and the
// norm, gate and sum over R of one head's outputs.
#if defined(KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROWS_INL_H_
#undef KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROWS_INL_H_
#else
#define KRAIT_KERNELS_SIMD_TRAPEZOIDAL_ROWS_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "hwy/contrib/math/math-inl.h"
#include "krait/kernels/scan_trapezoidal_task.h"
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// to[i] = rms(from)[i] weight[i], of `count` values.
HWY_INLINE void trapezoidal_norm(const float* from, const float* weight, std::int64_t count, float epsilon, float* to) {
  const F32 d;
  VecF32 squares = hn::Zero(d);
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    const VecF32 v = load<decltype(whole)::value>(from + i, part);
    squares = hn::MulAdd(v, v, squares);
  });
  const VecF32 factor = hn::Set(d, 1.0F / std::sqrt(sum_lanes(squares) / static_cast<float>(count) + epsilon));
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 v = hn::Mul(load<kWhole>(from + i, part), factor);
    store<kWhole>(hn::Mul(v, load<kWhole>(weight + i, part)), to + i, part);
  });
}

// Row `row` of the inputs -> the columns of TrapezoidalColumns.
void trapezoidal_prepare(const TrapezoidalScan& scan, const TrapezoidalInputs& in, std::int64_t row, float* to) {
  const F32 d;
  const TrapezoidalColumns columns(scan);
  const VecF32 one = hn::Set(d, 1.0F);
  for_vectors(scan.heads, [&](auto whole, std::int64_t h, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 raw = hn::Add(load<kWhole>(in.dt.row(row) + h, part), load<kWhole>(scan.dt_bias + h, part));
    const VecF32 dt = softplus_f32(raw);
    const VecF32 u = load<kWhole>(in.a.row(row) + h, part);
    const VecF32 f = hn::IfThenElse(hn::Lt(u, hn::Zero(d)), hn::Div(one, hn::Sub(one, u)), hn::Add(one, u));
    const VecF32 a = hn::Mul(at_least(hn::Set(d, scan.decay_floor), f), hn::Set(d, -1.44269504088896341F));
    const VecF32 gamma = hn::Mul(sigmoid_f32(load<kWhole>(in.trap.row(row) + h, part)), dt);
    // 1 - l is sigmoid(-trap): no cancellation where l is close to 1.
    const VecF32 shift = hn::Mul(sigmoid_f32(hn::Neg(load<kWhole>(in.trap.row(row) + h, part))), dt);
    store<kWhole>(dt, to + columns.dt + h, part);
    store<kWhole>(hn::Mul(a, dt), to + columns.log_decay + h, part);
    store<kWhole>(shift, to + columns.shift + h, part);
    store<kWhole>(gamma, to + columns.gamma + h, part);
  });
  for_vectors(scan.angles, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 v = load<kWhole>(in.angle.row(row) + i, part);
    store<kWhole>(hn::Mul(hn::Set(d, 3.14159265F), hn::Tanh(d, v)), to + columns.turn + i, part);
  });
  for (std::int64_t i = 0; i < scan.rank * scan.groups; ++i) {
    const std::int64_t at = i * scan.states;
    trapezoidal_norm(in.b.row(row) + at, scan.b_norm, scan.states, scan.epsilon, to + columns.b + at);
    trapezoidal_norm(in.c.row(row) + at, scan.c_norm, scan.states, scan.epsilon, to + columns.c + at);
  }
}

// raw [R] rows of `stride`: S^T q_r; y of one head and row = what becomes of them after D, norm, gate and the sum.
HWY_NOINLINE void trapezoidal_outputs(const TrapezoidalTask& task, std::int64_t head, std::int64_t row, float* raw,
                                      std::int64_t stride) {
  const F32 d;
  const TrapezoidalScan& scan = *task.scan;
  const std::int64_t width = scan.head_width;
  const float* x = task.in->x.row(row) + head * width;
  const float* z = task.in->z.row(row) + head * width;
  float* y = task.y.row(row) + head * width;
  const float* value_mix = task.mix(scan.value_mix, head);
  const float* gate_mix = task.mix(scan.gate_mix, head);
  const float* out_mix = task.mix(scan.out_mix, head);
  const VecF32 skip = hn::Set(d, scan.d[head]);
  for (std::int64_t r = 0; r < scan.rank; ++r, raw += stride) {
    VecF32 squares = hn::Zero(d);
    for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 v = load<kWhole>(x + p, part);
      if (value_mix != nullptr) v = hn::Mul(v, load<kWhole>(value_mix + r * width + p, part));
      v = hn::MulAdd(skip, v, load<kWhole>(raw + p, part));
      squares = hn::MulAdd(v, v, squares);
      store<kWhole>(v, raw + p, part);
    });
    VecF32 factor = hn::Set(d, 1.0F);
    if (scan.norm != nullptr) {
      factor = hn::Set(d, 1.0F / std::sqrt(sum_lanes(squares) / static_cast<float>(width) + scan.epsilon));
    }
    for_vectors(width, [&](auto whole, std::int64_t p, std::size_t part) {
      constexpr bool kWhole = decltype(whole)::value;
      VecF32 v = load<kWhole>(raw + p, part);
      if (scan.norm != nullptr) v = hn::Mul(hn::Mul(v, factor), load<kWhole>(scan.norm + head * width + p, part));
      VecF32 gate = load<kWhole>(z + p, part);
      if (gate_mix != nullptr) gate = hn::Mul(gate, load<kWhole>(gate_mix + r * width + p, part));
      v = hn::Mul(v, silu_f32(gate));
      if (out_mix != nullptr) v = hn::Mul(v, load<kWhole>(out_mix + r * width + p, part));
      if (r > 0) v = hn::Add(v, load<kWhole>(y + p, part));
      store<kWhole>(v, y + p, part);
    });
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
