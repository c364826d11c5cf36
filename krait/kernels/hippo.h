// Where the states of time-invariant models begin: HiPPO matrices (Gu et al. 2020, 2022 "How to train your HiPPO"),
// taken apart into a diagonal less a low rank for S4, and the closed diagonals of S4D. In double, once, at the start of
// training.
//   LegS:     A[n,k] = -sqrt((2n+1)(2k+1)) below the diagonal, -(n+1) on it, 0 above;  B[n] = sqrt(2n+1)
//   LegT:     A[n,k] = -sqrt((2n+1)(2k+1)) / 2, times (-1)^(n-k) above the diagonal;   B[n] = sqrt(2n+1) / 2
//   Fourier:  2 x 2 blocks, x[2n]' = -pi n x[2n+1], x[2n+1]' = pi n x[2n], less B B^T;  B = 1, 0, sqrt 2, 0, sqrt 2, 0
//   …
// Each is normal but for P P^T of rank 1, 2 and 1: A + P P^T = c + a skew matrix, whose eigenvectors are unitary.
#pragma once

#include <complex>
#include <cstdint>
#include <vector>

namespace krait::kernels {

enum class Hippo { kLegS, kLegT, kFourier };

struct HippoMatrices {
  std::vector<double> a;               // [N, N]
  std::vector<double> b;               // [N]
  std::vector<std::vector<double>> p;  // of each rank [N]
};
// N even.
HippoMatrices hippo_matrices(Hippo kind, std::int64_t n);

// A = V (diag lambda - P P^*) V^*, of each conjugate pair the state with negative imaginary part, ordered by its size;
// B and P are V^* B and V^* P. Eigenvectors are turned so that B is real and positive (P's first entry of a state where
// B has none). Real parts are c: -1/2 of LegS, 0 of the others, which the caller bounds away from 0.
struct DiagonalLessLowRank {
  std::vector<std::complex<double>> lambda, b;       // [N / 2]
  std::vector<std::vector<std::complex<double>>> p;  // of each rank [N / 2]
};
DiagonalLessLowRank hippo_diagonal(Hippo kind, std::int64_t n);

// S4D-Lin: -1/2 + i pi n; S4D-Inv: -1/2 + i N/pi (N / (2n+1) - 1). [N / 2]; B is 1. (S4D-LegS is hippo_diagonal's
// lambda and b.)
std::vector<std::complex<double>> s4d_linear(std::int64_t n);
std::vector<std::complex<double>> s4d_inverse(std::int64_t n);

}  // namespace krait::kernels
