#include "krait/kernels/activation.h"

#include <algorithm>
#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/row_grain.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/activation.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

template <bool kWhole>
HWY_INLINE void silu_at(const float* x, float* y, std::size_t count) {
  store<kWhole>(silu_f32(load<kWhole>(x, count)), y, count);
}

void silu_row(const float* x, float* y, std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    silu_at<decltype(whole)::value>(x + i, y + i, part);
  });
}

template <bool kWhole>
HWY_INLINE void sigmoid_at(const float* x, float* y, std::size_t count) {
  store<kWhole>(sigmoid_f32(load<kWhole>(x, count)), y, count);
}

void sigmoid_row(const float* x, float* y, std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    sigmoid_at<decltype(whole)::value>(x + i, y + i, part);
  });
}

// tanh |x| = (1 - u) / (1 + u), u = e^(-2 |x|), which never overflows.
template <bool kWhole>
HWY_INLINE void tanh_at(const float* x, float* y, std::size_t count) {
  const F32 d;
  const VecF32 v = load<kWhole>(x, count), one = hn::Set(d, 1.0F);
  const VecF32 u = exp_f32(hn::Mul(hn::Set(d, -2.0F), hn::Abs(v)));
  store<kWhole>(hn::CopySign(hn::Div(hn::Sub(one, u), hn::Add(one, u)), v), y, count);
}

void tanh_row(const float* x, float* y, std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    tanh_at<decltype(whole)::value>(x + i, y + i, part);
  });
}

template <bool kWhole>
HWY_INLINE void relu_at(const float* x, float* y, std::size_t count) {
  store<kWhole>(at_least(hn::Zero(F32()), load<kWhole>(x, count)), y, count);
}

void relu_row(const float* x, float* y, std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    relu_at<decltype(whole)::value>(x + i, y + i, part);
  });
}

template <bool kWhole>
HWY_INLINE void squared_relu_at(const float* x, float* y, std::size_t count) {
  const VecF32 v = at_least(hn::Zero(F32()), load<kWhole>(x, count));
  store<kWhole>(hn::Mul(v, v), y, count);
}

void squared_relu_row(const float* x, float* y, std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    squared_relu_at<decltype(whole)::value>(x + i, y + i, part);
  });
}

template <bool kWhole>
HWY_INLINE void silu_gate_at(const float* x, const float* gate, float* y, std::size_t count) {
  store<kWhole>(hn::Mul(load<kWhole>(x, count), silu_f32(load<kWhole>(gate, count))), y, count);
}

void silu_gate_row(const float* x, const float* gate, float* y, std::size_t count) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) silu_gate_at<true>(x + i, gate + i, y + i, kLanes);
  if (i < count) silu_gate_at<false>(x + i, gate + i, y + i, count - i);
}

template <bool kWhole>
HWY_INLINE void softplus_at(const float* x, const float* bias, float low, float high, float* y, std::size_t count) {
  const F32 d;
  VecF32 v = load<kWhole>(x, count);
  if (bias != nullptr) v = hn::Add(v, load<kWhole>(bias, count));
  store<kWhole>(at_most(hn::Set(d, high), at_least(hn::Set(d, low), softplus_f32(v))), y, count);
}

void softplus_row(const float* x, const float* bias, float low, float high, float* y, std::size_t count) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    softplus_at<true>(x + i, bias == nullptr ? nullptr : bias + i, low, high, y + i, kLanes);
  }
  if (i < count) softplus_at<false>(x + i, bias == nullptr ? nullptr : bias + i, low, high, y + i, count - i);
}

template <bool kWhole>
HWY_INLINE void sigmoid_gate_at(const float* x, const float* gate, float* y, std::size_t count) {
  store<kWhole>(hn::Mul(load<kWhole>(x, count), sigmoid_f32(load<kWhole>(gate, count))), y, count);
}

void sigmoid_gate_row(const float* x, const float* gate, float* y, std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    sigmoid_gate_at<decltype(whole)::value>(x + i, gate + i, y + i, part);
  });
}

template <bool kWhole>
HWY_INLINE void multiply_at(const float* x, float* y, std::size_t count) {
  store<kWhole>(hn::Mul(load<kWhole>(y, count), load<kWhole>(x, count)), y, count);
}

void multiply_row(const float* x, float* y, std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    multiply_at<decltype(whole)::value>(x + i, y + i, part);
  });
}

template <bool kWhole>
HWY_INLINE void scale_at(float factor, float* y, std::size_t count) {
  store<kWhole>(hn::Mul(load<kWhole>(y, count), hn::Set(F32(), factor)), y, count);
}

void scale_row(float factor, float* y, std::int64_t count) {
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    scale_at<decltype(whole)::value>(factor, y + i, part);
  });
}

template <bool kWhole>
HWY_INLINE void add_at(const float* x, float* y, std::size_t count) {
  store<kWhole>(hn::Add(load<kWhole>(y, count), load<kWhole>(x, count)), y, count);
}

void add_row(const float* x, float* y, std::int64_t count) {
  for_vectors(
      count, [&](auto whole, std::int64_t i, std::size_t part) { add_at<decltype(whole)::value>(x + i, y + i, part); });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(silu_row);
HWY_EXPORT(sigmoid_row);
HWY_EXPORT(tanh_row);
HWY_EXPORT(relu_row);
HWY_EXPORT(squared_relu_row);
HWY_EXPORT(silu_gate_row);
HWY_EXPORT(softplus_row);
HWY_EXPORT(sigmoid_gate_row);
HWY_EXPORT(multiply_row);
HWY_EXPORT(scale_row);
HWY_EXPORT(add_row);

// The models that use it are few: the library's error function, one value at a time.
float gelu_of(float x) { return 0.5F * x * std::erfc(-0.70710678F * x); }

void check_same_shape(RowsIn x, RowsOut y) {
  KRAIT_CHECK_EQ(x.rows, y.rows);
  KRAIT_CHECK_EQ(x.columns, y.columns);
}

// Calls body(row) for every row.
template <class Body>
void for_each_row(ThreadPool& pool, RowsIn x, RowsOut y, Body&& body) {
  check_same_shape(x, y);
  pool.parallel_for(x.rows, rows_per_task(x.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) body(row);
  });
}

}  // namespace

void silu(ThreadPool& pool, RowsIn x, RowsOut y) {
  for_each_row(pool, x, y,
               [&](std::int64_t row) { HWY_DYNAMIC_DISPATCH(silu_row)(x.row(row), y.row(row), x.columns); });
}

void sigmoid(ThreadPool& pool, RowsIn x, RowsOut y) {
  for_each_row(pool, x, y,
               [&](std::int64_t row) { HWY_DYNAMIC_DISPATCH(sigmoid_row)(x.row(row), y.row(row), x.columns); });
}

void hyperbolic_tangent(ThreadPool& pool, RowsIn x, RowsOut y) {
  for_each_row(pool, x, y,
               [&](std::int64_t row) { HWY_DYNAMIC_DISPATCH(tanh_row)(x.row(row), y.row(row), x.columns); });
}

void relu(ThreadPool& pool, RowsIn x, RowsOut y) {
  for_each_row(pool, x, y,
               [&](std::int64_t row) { HWY_DYNAMIC_DISPATCH(relu_row)(x.row(row), y.row(row), x.columns); });
}

void squared_relu(ThreadPool& pool, RowsIn x, RowsOut y) {
  for_each_row(pool, x, y,
               [&](std::int64_t row) { HWY_DYNAMIC_DISPATCH(squared_relu_row)(x.row(row), y.row(row), x.columns); });
}

void silu_gate(ThreadPool& pool, RowsIn x, RowsIn gate, RowsOut y) {
  check_same_shape(x, y);
  check_same_shape(gate, y);
  pool.parallel_for(x.rows, rows_per_task(x.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(silu_gate_row)
      (x.row(row), gate.row(row), y.row(row), static_cast<std::size_t>(x.columns));
    }
  });
}

void softplus(ThreadPool& pool, RowsIn x, const float* bias, float low, float high, RowsOut y) {
  check_same_shape(x, y);
  pool.parallel_for(x.rows, rows_per_task(x.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(softplus_row)
      (x.row(row), bias, low, high, y.row(row), static_cast<std::size_t>(x.columns));
    }
  });
}

void gelu(ThreadPool& pool, RowsIn x, RowsOut y) {
  for_each_row(pool, x, y,
               [&](std::int64_t row) { std::transform(x.row(row), x.row(row) + x.columns, y.row(row), gelu_of); });
}

void gelu_gate(ThreadPool& pool, RowsIn x, RowsIn gate, RowsOut y) {
  check_same_shape(gate, y);
  for_each_row(pool, x, y, [&](std::int64_t row) {
    for (std::int64_t i = 0; i < x.columns; ++i) y.row(row)[i] = x.row(row)[i] * gelu_of(gate.row(row)[i]);
  });
}

void sigmoid_gate(ThreadPool& pool, RowsIn x, RowsIn gate, RowsOut y) {
  check_same_shape(gate, y);
  for_each_row(pool, x, y, [&](std::int64_t row) {
    HWY_DYNAMIC_DISPATCH(sigmoid_gate_row)(x.row(row), gate.row(row), y.row(row), x.columns);
  });
}

void multiply(ThreadPool& pool, RowsIn x, RowsOut y) {
  for_each_row(pool, x, y,
               [&](std::int64_t row) { HWY_DYNAMIC_DISPATCH(multiply_row)(x.row(row), y.row(row), x.columns); });
}

void scale(ThreadPool& pool, float factor, RowsOut y) {
  for_each_row(pool, y, y, [&](std::int64_t row) { HWY_DYNAMIC_DISPATCH(scale_row)(factor, y.row(row), y.columns); });
}

void add(ThreadPool& pool, RowsIn x, RowsOut y) {
  for_each_row(pool, x, y, [&](std::int64_t row) { HWY_DYNAMIC_DISPATCH(add_row)(x.row(row), y.row(row), x.columns); });
}

void repeat_heads(ThreadPool& pool, RowsIn x, std::int64_t width, RowsOut y) {
  KRAIT_CHECK(x.rows == y.rows && x.columns % width == 0 && y.columns % x.columns == 0, "{} columns to {}, heads of {}",
              x.columns, y.columns, width);
  const std::int64_t repeats = y.columns / x.columns;
  pool.parallel_for(x.rows, rows_per_task(y.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* to = y.row(row);
      for (std::int64_t head = 0; head < x.columns; head += width) {
        for (std::int64_t i = 0; i < repeats; ++i) to = std::copy_n(x.row(row) + head, width, to);
      }
    }
  });
}

}  // namespace krait::kernels
#endif
