#include "krait/kernels/rwkv7_gates.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "krait/core/check.h"
#include "krait/kernels/row_grain.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/rwkv7_gates.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// One head of one row.
void gates_head(const float* w0, const float* a0, const float* k_k, const float* k_a, float* w, float* a, float* k,
                float* kappa, std::int64_t width) {
  const F32 d;
  VecF32 squares = hn::Zero(d);
  for_vectors(width, [&](auto whole, std::int64_t i, std::size_t count) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 removal = hn::Mul(load<kWhole>(k + i, count), load<kWhole>(k_k + i, count));
    squares = hn::MulAdd(removal, removal, squares);
    store<kWhole>(removal, kappa + i, count);
  });
  const VecF32 scale = hn::Set(d, 1.0F / std::max(std::sqrt(sum_lanes(squares)), 1e-12F));
  const VecF32 one = hn::Set(d, 1.0F), slowest = hn::Set(d, -0.60653065971263342F);  // -e^(-1/2)
  for_vectors(width, [&](auto whole, std::int64_t i, std::size_t count) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 rate = sigmoid_f32(hn::Add(load<kWhole>(a0 + i, count), load<kWhole>(a + i, count)));
    const VecF32 removal = hn::Mul(load<kWhole>(kappa + i, count), scale);
    const VecF32 grow = hn::MulAdd(hn::Sub(rate, one), load<kWhole>(k_a + i, count), one);
    const VecF32 decay = sigmoid_f32(hn::Add(load<kWhole>(w0 + i, count), load<kWhole>(w + i, count)));
    store<kWhole>(removal, kappa + i, count);
    store<kWhole>(hn::Mul(rate, removal), a + i, count);
    store<kWhole>(hn::Mul(load<kWhole>(k + i, count), grow), k + i, count);
    store<kWhole>(exp_f32(hn::Mul(slowest, decay)), w + i, count);
  });
}

void value_residual_row(const float* v0, const float* mix, const float* first, float* v, std::int64_t width) {
  for_vectors(width, [&](auto whole, std::int64_t i, std::size_t count) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 part = sigmoid_f32(hn::Add(load<kWhole>(v0 + i, count), load<kWhole>(mix + i, count)));
    const VecF32 own = load<kWhole>(v + i, count);
    store<kWhole>(hn::MulAdd(hn::Sub(load<kWhole>(first + i, count), own), part, own), v + i, count);
  });
}

// One head of one row.
void bonus_gate_head(const float* r_k, const float* r, const float* k, const float* v, const float* g, float* y,
                     std::int64_t width) {
  const F32 d;
  VecF32 sum = hn::Zero(d);
  for_vectors(width, [&](auto whole, std::int64_t i, std::size_t count) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 product = hn::Mul(load<kWhole>(r + i, count), load<kWhole>(k + i, count));
    sum = hn::MulAdd(product, load<kWhole>(r_k + i, count), sum);
  });
  const VecF32 bonus = hn::Set(d, sum_lanes(sum));
  for_vectors(width, [&](auto whole, std::int64_t i, std::size_t count) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 all = hn::MulAdd(bonus, load<kWhole>(v + i, count), load<kWhole>(y + i, count));
    store<kWhole>(hn::Mul(all, load<kWhole>(g + i, count)), y + i, count);
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(gates_head);
HWY_EXPORT(value_residual_row);
HWY_EXPORT(bonus_gate_head);

void check_shapes(std::initializer_list<RowsIn> all, std::int64_t heads, RowsOut like) {
  KRAIT_CHECK(heads > 0 && like.columns % heads == 0, "{} columns in {} heads", like.columns, heads);
  for (const RowsIn& rows : all) {
    KRAIT_CHECK_EQ(rows.rows, like.rows);
    KRAIT_CHECK_EQ(rows.columns, like.columns);
  }
}

// body(row, first column of a head)
template <class Body>
void for_each_head(ThreadPool& pool, std::int64_t heads, RowsOut like, Body&& body) {
  const std::int64_t width = like.columns / heads;
  pool.parallel_for(like.rows, rows_per_task(4 * like.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t head = 0; head < heads; ++head) body(row, head * width);
    }
  });
}

}  // namespace

void rwkv7_gates(ThreadPool& pool, const Rwkv7Gates& gates, RowsOut w, RowsOut a, RowsOut k, RowsOut kappa) {
  check_shapes({w, a, k}, gates.heads, kappa);
  for_each_head(pool, gates.heads, kappa, [&](std::int64_t row, std::int64_t at) {
    HWY_DYNAMIC_DISPATCH(gates_head)
    (gates.w0 + at, gates.a0 + at, gates.k_k + at, gates.k_a + at, w.row(row) + at, a.row(row) + at, k.row(row) + at,
     kappa.row(row) + at, kappa.columns / gates.heads);
  });
}

void rwkv7_value_residual(ThreadPool& pool, const float* v0, RowsIn mix, RowsIn first, RowsOut v) {
  check_shapes({mix, first}, 1, v);
  for_each_head(pool, 1, v, [&](std::int64_t row, std::int64_t) {
    HWY_DYNAMIC_DISPATCH(value_residual_row)
    (v0, mix.row(row), first.row(row), v.row(row), v.columns);
  });
}

void rwkv7_bonus_gate(ThreadPool& pool, std::int64_t heads, const float* r_k, RowsIn r, RowsIn k, RowsIn v, RowsIn g,
                      RowsOut y) {
  check_shapes({r, k, v, g}, heads, y);
  for_each_head(pool, heads, y, [&](std::int64_t row, std::int64_t at) {
    HWY_DYNAMIC_DISPATCH(bonus_gate_head)
    (r_k + at, r.row(row) + at, k.row(row) + at, v.row(row) + at, g.row(row) + at, y.row(row) + at, y.columns / heads);
  });
}

}  // namespace krait::kernels
#endif
