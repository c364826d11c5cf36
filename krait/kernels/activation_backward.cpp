#include "krait/kernels/activation_backward.h"

#include <algorithm>
#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/partial_sums.h"
#include "krait/kernels/row_grain.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/activation_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

HWY_INLINE VecF32 one() { return hn::Set(F32(), 1.0F); }

// s (1 + x (1 - s)), s = sigmoid(x).
HWY_INLINE VecF32 silu_slope(VecF32 x, VecF32 s) { return hn::Mul(s, hn::MulAdd(x, hn::Sub(one(), s), one())); }

// s (1 - s) = u / (1 + u)^2 with u = e^-|x|: nothing cancels where s is close to 1.
HWY_INLINE VecF32 sigmoid_slope(VecF32 x) {
  const VecF32 u = exp_f32(hn::Neg(hn::Abs(x))), sum = hn::Add(one(), u);
  return hn::Div(u, hn::Mul(sum, sum));
}

// dx = dy slope(x).
template <class Slope>
HWY_INLINE void multiply_by_slopes(const float* x, const float* dy, float* dx, std::int64_t count, Slope&& slope) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 slopes = slope(load<kWhole>(x + i, part));
    store<kWhole>(hn::Mul(load<kWhole>(dy + i, part), slopes), dx + i, part);
  });
}

void silu_row_back(const float* x, const float* dy, float* dx, std::int64_t count) {
  multiply_by_slopes(x, dy, dx, count, [](VecF32 v) { return silu_slope(v, sigmoid_f32(v)); });
}

void sigmoid_row_back(const float* x, const float* dy, float* dx, std::int64_t count) {
  multiply_by_slopes(x, dy, dx, count, [](VecF32 v) { return sigmoid_slope(v); });
}

// 1 - tanh(x)^2 = 4 sigmoid'(2x).
void tanh_row_back(const float* x, const float* dy, float* dx, std::int64_t count) {
  multiply_by_slopes(x, dy, dx, count,
                     [](VecF32 v) { return hn::Mul(hn::Set(F32(), 4.0F), sigmoid_slope(hn::Add(v, v))); });
}

void relu_row_back(const float* x, const float* dy, float* dx, std::int64_t count) {
  multiply_by_slopes(x, dy, dx, count, [](VecF32 v) { return hn::IfThenElseZero(hn::Gt(v, hn::Zero(F32())), one()); });
}

void squared_relu_row_back(const float* x, const float* dy, float* dx, std::int64_t count) {
  multiply_by_slopes(x, dy, dx, count, [](VecF32 v) {
    const VecF32 kept = at_least(hn::Zero(F32()), v);
    return hn::Add(kept, kept);
  });
}

void silu_gate_row_back(const float* x, const float* gate, const float* dy, float* dx, float* dgate,
                        std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 v = load<kWhole>(x + i, part), z = load<kWhole>(gate + i, part), d = load<kWhole>(dy + i, part);
    const VecF32 s = sigmoid_f32(z);
    store<kWhole>(hn::Mul(d, hn::Mul(z, s)), dx + i, part);
    store<kWhole>(hn::Mul(hn::Mul(d, v), silu_slope(z, s)), dgate + i, part);
  });
}

void sigmoid_gate_row_back(const float* x, const float* gate, const float* dy, float* dx, float* dgate,
                           std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 v = load<kWhole>(x + i, part), z = load<kWhole>(gate + i, part), d = load<kWhole>(dy + i, part);
    store<kWhole>(hn::Mul(d, sigmoid_f32(z)), dx + i, part);
    store<kWhole>(hn::Mul(hn::Mul(d, v), sigmoid_slope(z)), dgate + i, part);
  });
}

// softplus' = sigmoid, and 1 above 20 where softplus is x itself.
void softplus_row_back(const float* x, const float* bias, float low, float high, const float* dy, float* dx,
                       float* dbias, std::int64_t count) {
  const F32 d;
  const VecF32 lows = hn::Set(d, low), highs = hn::Set(d, high), linear = hn::Set(d, 20.0F);
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    VecF32 v = load<kWhole>(x + i, part);
    if (bias != nullptr) v = hn::Add(v, load<kWhole>(bias + i, part));
    const VecF32 y = softplus_f32(v), slope = hn::IfThenElse(hn::Gt(v, linear), one(), sigmoid_f32(v));
    const auto free = hn::And(hn::Ge(y, lows), hn::Le(y, highs));
    const VecF32 result = hn::IfThenElseZero(free, hn::Mul(load<kWhole>(dy + i, part), slope));
    store<kWhole>(result, dx + i, part);
    add_into<kWhole>(result, dbias + i, part);
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(silu_row_back);
HWY_EXPORT(sigmoid_row_back);
HWY_EXPORT(tanh_row_back);
HWY_EXPORT(relu_row_back);
HWY_EXPORT(squared_relu_row_back);
HWY_EXPORT(silu_gate_row_back);
HWY_EXPORT(sigmoid_gate_row_back);
HWY_EXPORT(softplus_row_back);

// As in the forward: the library's error function. Phi(x) and phi(x) of the normal distribution.
float normal_cumulative(float x) { return 0.5F * std::erfc(-0.70710678F * x); }
float gelu_slope(float x) { return normal_cumulative(x) + x * 0.39894228F * std::exp(-0.5F * x * x); }

// Calls body(row) for every row; all matrices have the shape of x.
template <class Body>
void for_each_row(ThreadPool& pool, RowsIn x, std::initializer_list<RowsIn> others, Body&& body) {
  for (const RowsIn& each : others) {
    KRAIT_CHECK_EQ(each.rows, x.rows);
    KRAIT_CHECK_EQ(each.columns, x.columns);
  }
  pool.parallel_for(x.rows, rows_per_task(x.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) body(row);
  });
}

}  // namespace

void silu_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx) {
  for_each_row(pool, x, {dy, dx}, [&](std::int64_t row) {
    HWY_DYNAMIC_DISPATCH(silu_row_back)(x.row(row), dy.row(row), dx.row(row), x.columns);
  });
}

void sigmoid_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx) {
  for_each_row(pool, x, {dy, dx}, [&](std::int64_t row) {
    HWY_DYNAMIC_DISPATCH(sigmoid_row_back)(x.row(row), dy.row(row), dx.row(row), x.columns);
  });
}

void hyperbolic_tangent_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx) {
  for_each_row(pool, x, {dy, dx}, [&](std::int64_t row) {
    HWY_DYNAMIC_DISPATCH(tanh_row_back)(x.row(row), dy.row(row), dx.row(row), x.columns);
  });
}

void gelu_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx) {
  for_each_row(pool, x, {dy, dx}, [&](std::int64_t row) {
    for (std::int64_t i = 0; i < x.columns; ++i) dx.row(row)[i] = dy.row(row)[i] * gelu_slope(x.row(row)[i]);
  });
}

void relu_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx) {
  for_each_row(pool, x, {dy, dx}, [&](std::int64_t row) {
    HWY_DYNAMIC_DISPATCH(relu_row_back)(x.row(row), dy.row(row), dx.row(row), x.columns);
  });
}

void squared_relu_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx) {
  for_each_row(pool, x, {dy, dx}, [&](std::int64_t row) {
    HWY_DYNAMIC_DISPATCH(squared_relu_row_back)(x.row(row), dy.row(row), dx.row(row), x.columns);
  });
}

void silu_gate_backward(ThreadPool& pool, RowsIn x, RowsIn gate, RowsIn dy, const GateGradients& gradients) {
  for_each_row(pool, x, {gate, dy, gradients.x, gradients.gate}, [&](std::int64_t row) {
    HWY_DYNAMIC_DISPATCH(silu_gate_row_back)
    (x.row(row), gate.row(row), dy.row(row), gradients.x.row(row), gradients.gate.row(row), x.columns);
  });
}

void sigmoid_gate_backward(ThreadPool& pool, RowsIn x, RowsIn gate, RowsIn dy, const GateGradients& gradients) {
  for_each_row(pool, x, {gate, dy, gradients.x, gradients.gate}, [&](std::int64_t row) {
    HWY_DYNAMIC_DISPATCH(sigmoid_gate_row_back)
    (x.row(row), gate.row(row), dy.row(row), gradients.x.row(row), gradients.gate.row(row), x.columns);
  });
}

void gelu_gate_backward(ThreadPool& pool, RowsIn x, RowsIn gate, RowsIn dy, const GateGradients& gradients) {
  for_each_row(pool, x, {gate, dy, gradients.x, gradients.gate}, [&](std::int64_t row) {
    for (std::int64_t i = 0; i < x.columns; ++i) {
      const float v = x.row(row)[i], z = gate.row(row)[i], d = dy.row(row)[i];
      gradients.x.row(row)[i] = d * (z * normal_cumulative(z));
      gradients.gate.row(row)[i] = d * v * gelu_slope(z);
    }
  });
}

void softplus_backward(ThreadPool& pool, RowsIn x, const float* bias, float low, float high, RowsIn dy, RowsOut dx,
                       float* dbias) {
  for (const RowsIn& each : {dy, RowsIn(dx)}) {
    KRAIT_CHECK_EQ(each.rows, x.rows);
    KRAIT_CHECK_EQ(each.columns, x.columns);
  }
  PartialSums sums = sum_over_rows(pool, x.rows, x.columns, x.columns, [&](std::int64_t row, float* part) {
    HWY_DYNAMIC_DISPATCH(softplus_row_back)
    (x.row(row), bias, low, high, dy.row(row), dx.row(row), part, x.columns);
  });
  sums.add_to(pool, 0, x.columns, dbias);
}

void repeat_heads_backward(ThreadPool& pool, RowsIn dy, std::int64_t width, RowsOut dx) {
  KRAIT_CHECK(dx.rows == dy.rows && dx.columns % width == 0 && dx.columns > 0 && dy.columns % dx.columns == 0,
              "{} columns to {}, heads of {}", dy.columns, dx.columns, width);
  const std::int64_t repeats = dy.columns / dx.columns;
  pool.parallel_for(dx.rows, rows_per_task(dy.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* from = dy.row(row);
      for (float* to = dx.row(row); to != dx.row(row) + dx.columns; to += width) {
        std::copy_n(from, width, to);
        from += width;
        for (std::int64_t i = 1; i < repeats; ++i, from += width) {
          for (std::int64_t c = 0; c < width; ++c) to[c] += from[c];
        }
      }
    }
  });
}

}  // namespace krait::kernels
#endif
