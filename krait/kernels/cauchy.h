// Cauchy sums of S4 over conjugate pairs of states, in double. With u = 2 sin(a/2) and c = cos(a/2) of a node, and
// mu = dt Lambda[n], the share of a pair of states with coefficient v is
//   v / (i u - c mu) + v* / (i u - c mu*) = (i u alpha - c beta) / D,
//   alpha = 2 Re v,  beta = 2 Re(v mu*),  D = c^2 |mu|^2 - u^2 - 2 i u c Re mu:
// one division for all coefficients of a state.
#pragma once

#include <complex>
#include <cstdint>
#include <span>
#include <vector>

namespace krait::kernels {

// Coefficients are walked four at a time; their number is a multiple of that, nodes' of eight.
inline constexpr std::int64_t kCauchyCoefficients = 4;
inline constexpr std::int64_t kCauchyNodes = 8;

struct CauchyNodes {
  std::vector<double> u, c;  // of k = 0 … L / 2, and up to a multiple of kCauchyNodes those of w = -1
  explicit CauchyNodes(std::int64_t length);
  std::int64_t count() const { return static_cast<std::int64_t>(u.size()); }
};

struct CauchyStates {
  std::int64_t states = 0, coefficients = 0;
  std::vector<double> alpha, beta;   // [states, coefficients]
  std::vector<double> square, real;  // |mu|^2 and Re mu
  CauchyStates(std::int64_t state_count, std::int64_t coefficient_count);
};

// Of one coefficient after the other, count() real parts and as many imaginary ones.
using CauchySums = std::vector<double>;

// sums[j, k] = sum_n (i u alpha - c beta) / D.
void cauchy_sums(const CauchyNodes& nodes, const CauchyStates& states, CauchySums& sums);

// Gradients of states, written, from those of the sums (d/dRe + i d/dIm).
void cauchy_sums_backward(const CauchyNodes& nodes, const CauchyStates& states, const CauchySums& gradients,
                          CauchyStates& result);

}  // namespace krait::kernels
