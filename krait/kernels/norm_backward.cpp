#include "krait/kernels/norm_backward.h"

#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/partial_sums.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_NORM_BACKWARD_CPP_
#define KRAIT_KERNELS_NORM_BACKWARD_CPP_
namespace krait::kernels {
namespace {

// One row of a norm, or one group of one.
struct NormRow {
  const float* x;
  const float* weight;  // null: ones
  float epsilon;
  const float* dy;
  const float* added;  // to dx, or null
  float* dx;
  float* dweight;  // added to
  std::int64_t count;
};

struct GatedNormRow {
  NormRow norm;  // `added` is not used
  const float* gate;
  bool gate_first;
  float* dgate;
  float* scratch;  // [count]
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/norm_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

HWY_INLINE float inverse_rms(VecF32 squares, std::int64_t count, float epsilon) {
  return 1.0F / std::sqrt(sum_lanes(squares) / static_cast<float>(count) + epsilon);
}

// r and r^3 mean(g x), of which dx = r g - x (the second).
struct NormFactors {
  VecF32 scale, pull;
  HWY_INLINE NormFactors(VecF32 squares, VecF32 products, std::int64_t count, float epsilon) {
    const float r = inverse_rms(squares, count, epsilon);
    scale = hn::Set(F32(), r);
    pull = hn::Set(F32(), r * r * r * (sum_lanes(products) / static_cast<float>(count)));
  }
};

template <bool kWhole>
HWY_INLINE VecF32 times_weight(VecF32 v, const float* weight, std::int64_t i, std::size_t part) {
  return weight == nullptr ? v : hn::Mul(v, load<kWhole>(weight + i, part));
}

void rms_norm_row_back(const NormRow& row) {
  const F32 d;
  VecF32 squares = hn::Zero(d), products = hn::Zero(d);
  for_vectors(row.count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 x = load<kWhole>(row.x + i, part), dy = load<kWhole>(row.dy + i, part);
    squares = hn::MulAdd(x, x, squares);
    products = hn::MulAdd(times_weight<kWhole>(dy, row.weight, i, part), x, products);
  });
  const NormFactors factors(squares, products, row.count, row.epsilon);
  for_vectors(row.count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 x = load<kWhole>(row.x + i, part), dy = load<kWhole>(row.dy + i, part);
    add_into<kWhole>(hn::Mul(dy, hn::Mul(x, factors.scale)), row.dweight + i, part);
    const VecF32 g = hn::Mul(times_weight<kWhole>(dy, row.weight, i, part), factors.scale);
    VecF32 dx = hn::NegMulAdd(x, factors.pull, g);
    if (row.added != nullptr) dx = hn::Add(dx, load<kWhole>(row.added + i, part));
    store<kWhole>(dx, row.dx + i, part);
  });
}

// The gate's sigmoid s is kept: silu(z) = z s, silu'(z) = s (1 + z (1 - s)).
HWY_INLINE VecF32 silu_slope(VecF32 z, VecF32 sigmoid) {
  const VecF32 one = hn::Set(F32(), 1.0F);
  return hn::Mul(sigmoid, hn::MulAdd(z, hn::Sub(one, sigmoid), one));
}

// The norm's input is u = x silu(z) where the gate comes first, and its output's gradient dy silu(z) where it comes
// last; both are x, dy and one more factor.
void gated_rms_norm_row_back(const GatedNormRow& row) {
  const F32 d;
  const NormRow& norm = row.norm;
  VecF32 squares = hn::Zero(d), products = hn::Zero(d);
  for_vectors(norm.count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 x = load<kWhole>(norm.x + i, part), z = load<kWhole>(row.gate + i, part);
    const VecF32 sigmoid = sigmoid_f32(z), gated = hn::Mul(x, hn::Mul(z, sigmoid));
    store<kWhole>(sigmoid, row.scratch + i, part);
    const VecF32 u = row.gate_first ? gated : x;
    squares = hn::MulAdd(u, u, squares);
    const VecF32 g = times_weight<kWhole>(load<kWhole>(norm.dy + i, part), norm.weight, i, part);
    products = hn::MulAdd(g, gated, products);
  });
  const NormFactors factors(squares, products, norm.count, norm.epsilon);
  for_vectors(norm.count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 x = load<kWhole>(norm.x + i, part), z = load<kWhole>(row.gate + i, part);
    const VecF32 dy = load<kWhole>(norm.dy + i, part), sigmoid = load<kWhole>(row.scratch + i, part);
    const VecF32 silu = hn::Mul(z, sigmoid), slope = silu_slope(z, sigmoid);
    const VecF32 g = times_weight<kWhole>(dy, norm.weight, i, part);
    const VecF32 scaled = hn::Mul(x, factors.scale);
    add_into<kWhole>(hn::Mul(hn::Mul(dy, silu), scaled), norm.dweight + i, part);
    if (row.gate_first) {
      const VecF32 du = hn::NegMulAdd(hn::Mul(x, silu), factors.pull, hn::Mul(g, factors.scale));
      store<kWhole>(hn::Mul(du, silu), norm.dx + i, part);
      store<kWhole>(hn::Mul(hn::Mul(du, x), slope), row.dgate + i, part);
    } else {
      const VecF32 flow = hn::Mul(hn::Mul(g, silu), factors.scale);
      store<kWhole>(hn::NegMulAdd(x, factors.pull, flow), norm.dx + i, part);
      store<kWhole>(hn::Mul(hn::Mul(g, scaled), slope), row.dgate + i, part);
    }
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(rms_norm_row_back);
HWY_EXPORT(gated_rms_norm_row_back);

void check_same_shape(RowsIn x, RowsIn other, const char* what) {
  KRAIT_CHECK(x.rows == other.rows && x.columns == other.columns, "x {} x {}, {} {} x {}", x.rows, x.columns, what,
              other.rows, other.columns);
}

void rms_norm_back(ThreadPool& pool, RowsIn x, const float* weight, float epsilon, RowsIn dy, RowsIn added,
                   const RmsNormGradients& gradients) {
  check_same_shape(x, dy, "dy");
  check_same_shape(x, gradients.x, "its gradient");
  if (x.columns == 0) return;
  sum_over_rows(pool, x.rows, x.columns, x.columns, [&](std::int64_t row, float* sums) {
    HWY_DYNAMIC_DISPATCH(rms_norm_row_back)
    ({.x = x.row(row),
      .weight = weight,
      .epsilon = epsilon,
      .dy = dy.row(row),
      .added = added.empty() ? nullptr : added.row(row),
      .dx = gradients.x.row(row),
      .dweight = sums,
      .count = x.columns});
  }).add_to(pool, 0, x.columns, gradients.weight);
}

}  // namespace

void rms_norm_backward(ThreadPool& pool, RowsIn x, const float* weight, float epsilon, RowsIn dy,
                       const RmsNormGradients& gradients) {
  rms_norm_back(pool, x, weight, epsilon, dy, {}, gradients);
}

void add_rms_norm_backward(ThreadPool& pool, RowsIn residual, const float* weight, float epsilon, RowsIn dy,
                           RowsIn dresidual, const RmsNormGradients& gradients) {
  check_same_shape(residual, dresidual, "dresidual");
  rms_norm_back(pool, residual, weight, epsilon, dy, dresidual, gradients);
}

void gated_rms_norm_backward(ThreadPool& pool, RowsIn x, RowsIn gate, const float* weight, float epsilon,
                             std::int64_t groups, GateOrder order, RowsIn dy, const GatedRmsNormGradients& gradients) {
  check_same_shape(x, gate, "gate");
  check_same_shape(x, dy, "dy");
  check_same_shape(x, gradients.x, "its gradient");
  check_same_shape(x, gradients.gate, "the gate's gradient");
  KRAIT_CHECK(groups > 0 && x.columns % groups == 0, "{} columns in {} groups", x.columns, groups);
  const std::int64_t width = x.columns / groups;
  if (width == 0) return;
  sum_over_rows(pool, x.rows, x.columns, x.columns, [&](std::int64_t row, float* sums) {
    const std::span<float> scratch = thread_scratch(static_cast<std::size_t>(width));
    for (std::int64_t at = 0; at < x.columns; at += width) {
      HWY_DYNAMIC_DISPATCH(gated_rms_norm_row_back)
      ({.norm = {.x = x.row(row) + at,
                 .weight = weight == nullptr ? nullptr : weight + at,
                 .epsilon = epsilon,
                 .dy = dy.row(row) + at,
                 .added = nullptr,
                 .dx = gradients.x.row(row) + at,
                 .dweight = sums + at,
                 .count = width},
        .gate = gate.row(row) + at,
        .gate_first = order == GateOrder::kGateThenNorm,
        .dgate = gradients.gate.row(row) + at,
        .scratch = scratch.data()});
    }
  }).add_to(pool, 0, x.columns, gradients.weight);
}

}  // namespace krait::kernels
#endif
