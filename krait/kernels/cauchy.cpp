#include "krait/kernels/cauchy.h"

#include <cmath>
#include <numbers>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/cauchy.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F64 = hn::CappedTag<double, kCauchyNodes>;
using VecF64 = hn::Vec<F64>;
inline constexpr auto kDoubles = static_cast<std::int64_t>(hn::MaxLanes(F64()));

struct ComplexF64 {
  VecF64 re, im;
};

// 1 / D of one state at a vector of nodes.
HWY_INLINE ComplexF64 inverse_of(VecF64 u, VecF64 c, double square, double real) {
  const F64 d;
  const VecF64 uc = hn::Mul(u, c);
  const VecF64 re = hn::MulSub(hn::Mul(c, c), hn::Set(d, square), hn::Mul(u, u));
  const VecF64 im = hn::Mul(uc, hn::Set(d, -2.0 * real));
  const VecF64 scale = hn::Div(hn::Set(d, 1.0), hn::MulAdd(re, re, hn::Mul(im, im)));
  return {hn::Mul(re, scale), hn::Neg(hn::Mul(im, scale))};
}

void sum_four(const CauchyNodes& nodes, const CauchyStates& states, std::int64_t first, double* sums) {
  constexpr auto kCount = static_cast<std::size_t>(kCauchyCoefficients);
  const F64 d;
  for (std::int64_t k = 0; k < nodes.count(); k += kDoubles) {
    const VecF64 u = hn::LoadU(d, nodes.u.data() + k), c = hn::LoadU(d, nodes.c.data() + k);
    ComplexF64 by_alpha[kCount], by_beta[kCount];
    for (std::size_t j = 0; j < kCount; ++j) by_alpha[j] = by_beta[j] = {hn::Zero(d), hn::Zero(d)};
    const double* alpha = states.alpha.data() + first;
    const double* beta = states.beta.data() + first;
    for (std::int64_t n = 0; n < states.states; ++n, alpha += states.coefficients, beta += states.coefficients) {
      const auto at = static_cast<std::size_t>(n);
      const ComplexF64 inverse = inverse_of(u, c, states.square[at], states.real[at]);
      for (std::size_t j = 0; j < kCount; ++j) {
        const VecF64 a = hn::Set(d, alpha[j]), b = hn::Set(d, beta[j]);
        by_alpha[j] = {hn::MulAdd(a, inverse.re, by_alpha[j].re), hn::MulAdd(a, inverse.im, by_alpha[j].im)};
        by_beta[j] = {hn::MulAdd(b, inverse.re, by_beta[j].re), hn::MulAdd(b, inverse.im, by_beta[j].im)};
      }
    }
    for (std::size_t j = 0; j < kCount; ++j) {
      double* to = sums + 2 * (first + static_cast<std::int64_t>(j)) * nodes.count() + k;
      hn::StoreU(hn::Neg(hn::MulAdd(u, by_alpha[j].im, hn::Mul(c, by_beta[j].re))), d, to);
      hn::StoreU(hn::MulSub(u, by_alpha[j].re, hn::Mul(c, by_beta[j].im)), d, to + nodes.count());
    }
  }
}

// With E = conj(g) / D: the gradient of alpha is sum_k Re(E i u), of beta sum_k Re(-E c), and with
// F = -E (i u alpha - c beta) / D, of |mu|^2 sum_k Re(F c^2) and of Re mu sum_k Re(-2 i u c F).
void sum_four_backward(const CauchyNodes& nodes, const CauchyStates& states, std::int64_t first,
                       const double* gradients, CauchyStates& result) {
  constexpr auto kCount = static_cast<std::size_t>(kCauchyCoefficients);
  const F64 d;
  for (std::int64_t n = 0; n < states.states; ++n) {
    const auto at = static_cast<std::size_t>(n);
    const std::int64_t coefficient = n * states.coefficients + first;
    VecF64 alpha[kCount], beta[kCount];
    for (std::size_t j = 0; j < kCount; ++j) alpha[j] = beta[j] = hn::Zero(d);
    VecF64 square = hn::Zero(d), real = hn::Zero(d);
    for (std::int64_t k = 0; k < nodes.count(); k += kDoubles) {
      const VecF64 u = hn::LoadU(d, nodes.u.data() + k), c = hn::LoadU(d, nodes.c.data() + k);
      const ComplexF64 inverse = inverse_of(u, c, states.square[at], states.real[at]);
      ComplexF64 sum = {hn::Zero(d), hn::Zero(d)};  // of E (i u alpha - c beta)
      for (std::size_t j = 0; j < kCount; ++j) {
        const double* from = gradients + 2 * (first + static_cast<std::int64_t>(j)) * nodes.count() + k;
        const VecF64 g_re = hn::LoadU(d, from), g_im = hn::LoadU(d, from + nodes.count());
        const VecF64 e_re = hn::MulAdd(g_im, inverse.im, hn::Mul(g_re, inverse.re));
        const VecF64 e_im = hn::NegMulAdd(g_im, inverse.re, hn::Mul(g_re, inverse.im));
        alpha[j] = hn::NegMulAdd(e_im, u, alpha[j]);
        beta[j] = hn::NegMulAdd(e_re, c, beta[j]);
        const VecF64 a = hn::Mul(u, hn::Set(d, states.alpha[static_cast<std::size_t>(coefficient) + j]));
        const VecF64 b = hn::Mul(c, hn::Set(d, states.beta[static_cast<std::size_t>(coefficient) + j]));
        sum.re = hn::Sub(sum.re, hn::MulAdd(e_im, a, hn::Mul(e_re, b)));
        sum.im = hn::Add(sum.im, hn::MulSub(e_re, a, hn::Mul(e_im, b)));
      }
      const VecF64 f_re = hn::MulSub(sum.im, inverse.im, hn::Mul(sum.re, inverse.re));
      const VecF64 f_im = hn::Neg(hn::MulAdd(sum.im, inverse.re, hn::Mul(sum.re, inverse.im)));
      square = hn::MulAdd(f_re, hn::Mul(c, c), square);
      real = hn::MulAdd(f_im, hn::Mul(hn::Set(d, 2.0), hn::Mul(u, c)), real);
    }
    for (std::size_t j = 0; j < kCount; ++j) {
      result.alpha[static_cast<std::size_t>(coefficient) + j] = hn::GetLane(hn::SumOfLanes(d, alpha[j]));
      result.beta[static_cast<std::size_t>(coefficient) + j] = hn::GetLane(hn::SumOfLanes(d, beta[j]));
    }
    result.square[at] += hn::GetLane(hn::SumOfLanes(d, square));
    result.real[at] += hn::GetLane(hn::SumOfLanes(d, real));
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

namespace krait::kernels {
namespace {

HWY_EXPORT(sum_four);
HWY_EXPORT(sum_four_backward);

}  // namespace

CauchyNodes::CauchyNodes(std::int64_t length) {
  const std::int64_t used = length / 2 + 1, count = (used + kCauchyNodes - 1) / kCauchyNodes * kCauchyNodes;
  for (std::int64_t k = 0; k < count; ++k) {
    // Half the angle as a share of a quarter turn: exactly 0 and 1 at the ends.
    const double half = 2.0 * static_cast<double>(std::min(k, used)) / static_cast<double>(length);
    const bool last = half >= 1.0;
    u.push_back(last ? 2.0 : 2.0 * std::sin(0.5 * std::numbers::pi * half));
    c.push_back(last ? 0.0 : std::cos(0.5 * std::numbers::pi * half));
  }
}

CauchyStates::CauchyStates(std::int64_t state_count, std::int64_t coefficient_count)
    : states(state_count),
      coefficients((coefficient_count + kCauchyCoefficients - 1) / kCauchyCoefficients * kCauchyCoefficients),
      alpha(static_cast<std::size_t>(states * coefficients)),
      beta(alpha.size()),
      square(static_cast<std::size_t>(states)),
      real(square.size()) {}

void cauchy_sums(const CauchyNodes& nodes, const CauchyStates& states, CauchySums& sums) {
  sums.resize(static_cast<std::size_t>(2 * states.coefficients * nodes.count()));
  for (std::int64_t first = 0; first < states.coefficients; first += kCauchyCoefficients) {
    HWY_DYNAMIC_DISPATCH(sum_four)(nodes, states, first, sums.data());
  }
}

void cauchy_sums_backward(const CauchyNodes& nodes, const CauchyStates& states, const CauchySums& gradients,
                          CauchyStates& result) {
  KRAIT_CHECK_EQ(static_cast<std::int64_t>(gradients.size()), 2 * states.coefficients * nodes.count());
  std::ranges::fill(result.square, 0.0);
  std::ranges::fill(result.real, 0.0);
  for (std::int64_t first = 0; first < states.coefficients; first += kCauchyCoefficients) {
    HWY_DYNAMIC_DISPATCH(sum_four_backward)(nodes, states, first, gradients.data(), result);
  }
}

}  // namespace krait::kernels
#endif
