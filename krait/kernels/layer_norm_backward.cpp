#include "krait/kernels/layer_norm_backward.h"

#include <cmath>

#include "krait/core/check.h"
#include "krait/kernels/partial_sums.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_LAYER_NORM_BACKWARD_CPP_
#define KRAIT_KERNELS_LAYER_NORM_BACKWARD_CPP_
namespace krait::kernels {
namespace {

// One group of one row.
struct LayerNormGroup {
  const float* x;
  const float* weight;  // null: ones
  float epsilon;
  const float* dy;
  float* dx;
  float* dweight;  // added to, like dbias
  float* dbias;
  std::int64_t count;
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/layer_norm_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

template <bool kWhole>
HWY_INLINE VecF32 gradient_of_norm(const LayerNormGroup& group, std::int64_t i, std::size_t part) {
  const VecF32 dy = load<kWhole>(group.dy + i, part);
  return group.weight == nullptr ? dy : hn::Mul(dy, load<kWhole>(group.weight + i, part));
}

void layer_norm_group_back(const LayerNormGroup& group) {
  const F32 d;
  const auto count = static_cast<float>(group.count);
  VecF32 sum = hn::Zero(d), gradients = hn::Zero(d);
  for_vectors(group.count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    sum = hn::Add(sum, load<kWhole>(group.x + i, part));
    gradients = hn::Add(gradients, gradient_of_norm<kWhole>(group, i, part));
  });
  const VecF32 mean = hn::Set(d, sum_lanes(sum) / count), mean_gradient = hn::Set(d, sum_lanes(gradients) / count);
  // About the mean, in a second pass, like the forward kernel.
  VecF32 squares = hn::Zero(d), products = hn::Zero(d);
  for_vectors(group.count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    VecF32 v = hn::Sub(load<kWhole>(group.x + i, part), mean);
    // Lanes past the end hold zero, not the mean.
    if constexpr (!kWhole) v = hn::IfThenElseZero(hn::FirstN(d, part), v);
    squares = hn::MulAdd(v, v, squares);
    products = hn::MulAdd(gradient_of_norm<kWhole>(group, i, part), v, products);
  });
  const float r = 1.0F / std::sqrt(sum_lanes(squares) / count + group.epsilon);
  const VecF32 scale = hn::Set(d, r), pull = hn::Set(d, r * (sum_lanes(products) / count));
  for_vectors(group.count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 n = hn::Mul(hn::Sub(load<kWhole>(group.x + i, part), mean), scale);
    const VecF32 dy = load<kWhole>(group.dy + i, part), g = gradient_of_norm<kWhole>(group, i, part);
    add_into<kWhole>(hn::Mul(dy, n), group.dweight + i, part);
    add_into<kWhole>(dy, group.dbias + i, part);
    store<kWhole>(hn::Mul(scale, hn::NegMulAdd(n, pull, hn::Sub(g, mean_gradient))), group.dx + i, part);
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(layer_norm_group_back);

}  // namespace

void layer_norm_backward(ThreadPool& pool, const LayerNorm& norm, RowsIn x, RowsIn dy,
                         const LayerNormGradients& gradients) {
  for (const RowsIn& each : {dy, RowsIn(gradients.x)}) {
    KRAIT_CHECK_EQ(each.rows, x.rows);
    KRAIT_CHECK_EQ(each.columns, x.columns);
  }
  KRAIT_CHECK(norm.groups > 0 && x.columns % norm.groups == 0, "{} columns in {} groups", x.columns, norm.groups);
  const std::int64_t width = x.columns / norm.groups;
  if (width == 0) return;
  PartialSums sums = sum_over_rows(pool, x.rows, x.columns, 2 * x.columns, [&](std::int64_t row, float* part) {
    for (std::int64_t at = 0; at < x.columns; at += width) {
      HWY_DYNAMIC_DISPATCH(layer_norm_group_back)
      ({.x = x.row(row) + at,
        .weight = norm.weight == nullptr ? nullptr : norm.weight + at,
        .epsilon = norm.epsilon,
        .dy = dy.row(row) + at,
        .dx = gradients.x.row(row) + at,
        .dweight = part + at,
        .dbias = part + x.columns + at,
        .count = width});
    }
  });
  sums.add_to(pool, 0, x.columns, gradients.weight);
  sums.add_to(pool, x.columns, x.columns, gradients.bias);
}

}  // namespace krait::kernels
#endif
