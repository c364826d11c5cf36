#include "krait/kernels/hippo.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace krait::kernels {
namespace {

void expect_row(const HippoMatrices& matrices, std::int64_t row, const std::vector<double>& expected) {
  for (std::size_t k = 0; k < expected.size(); ++k) {
    EXPECT_NEAR(matrices.a[static_cast<std::size_t>(row) * expected.size() + k], expected[k], 5e-5) << row << ", " << k;
  }
}

// Of the authors' code, as printed with four digits.
TEST(Hippo, MatricesAreTheAuthors) {
  const HippoMatrices legs = hippo_matrices(Hippo::kLegS, 4);
  expect_row(legs, 0, {-1, 0, 0, 0});
  expect_row(legs, 1, {-1.7321, -2, 0, 0});
  expect_row(legs, 2, {-2.2361, -3.8730, -3, 0});
  expect_row(legs, 3, {-2.6458, -4.5826, -5.9161, -4});
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(legs.b[i], (std::vector{1.0, 1.7321, 2.2361, 2.6458})[i], 5e-5);
  const HippoMatrices legt = hippo_matrices(Hippo::kLegT, 4);
  expect_row(legt, 0, {-0.5, 0.8660, -1.1180, 1.3229});
  expect_row(legt, 1, {-0.8660, -1.5, 1.9365, -2.2913});
  const HippoMatrices fourier = hippo_matrices(Hippo::kFourier, 4);
  expect_row(fourier, 0, {-1, 0, -1.4142, 0});
  expect_row(fourier, 1, {0, 0, 0, 0});
  expect_row(fourier, 2, {-1.4142, 0, -2, -3.1416});
  expect_row(fourier, 3, {0, 0, 3.1416, 0});
}

// Frequencies of LegS that the authors' code gives.
TEST(Hippo, FrequenciesOfLegsAreTheAuthors) {
  const auto frequencies = [](std::int64_t n) {
    std::vector<double> sizes;
    for (const auto lambda : hippo_diagonal(Hippo::kLegS, n).lambda) {
      EXPECT_EQ(lambda.real(), -0.5);
      sizes.push_back(-lambda.imag());
    }
    EXPECT_TRUE(std::ranges::is_sorted(sizes));
    return sizes;
  };
  EXPECT_NEAR(frequencies(4).front(), 0.5565, 5e-5);
  EXPECT_NEAR(frequencies(8).front(), 0.4275, 5e-5);
  EXPECT_NEAR(frequencies(8).back(), 19.857, 5e-4);
  const std::vector<double> of64 = frequencies(64);
  ASSERT_EQ(of64.size(), 32U);
  EXPECT_NEAR(of64.front(), 0.2639, 5e-5);
  EXPECT_NEAR(of64[29], 258.15, 5e-3);
  EXPECT_NEAR(of64[30], 433.03, 5e-3);
  EXPECT_NEAR(of64[31], 1303.27, 5e-3);
}

// The transfer function B^T (s - A)^-1 B of the real matrices and of the parts: the basis does not matter, and it is
// all that a model can show of A and B. Gauss without pivoting is stable enough here for s = 1 + 2i and small N.
std::complex<double> transfer_of(const HippoMatrices& matrices, std::complex<double> s) {
  const std::size_t n = matrices.b.size();
  std::vector<std::complex<double>> a(n * n), x(matrices.b.begin(), matrices.b.end());
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < n; ++k) a[i * n + k] = (i == k ? s : 0.0) - matrices.a[i * n + k];
  }
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t i = k + 1; i < n; ++i) {
      const auto factor = a[i * n + k] / a[k * n + k];
      for (std::size_t j = k; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
      x[i] -= factor * x[k];
    }
  }
  std::complex<double> sum = 0.0;
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) x[k] -= a[k * n + j] * x[j];
    x[k] /= a[k * n + k];
    sum += x[k] * matrices.b[k];
  }
  return sum;
}

// The same by Woodbury's identity over the pairs.
std::complex<double> transfer_of(const DiagonalLessLowRank& parts, std::complex<double> s) {
  const auto sum = [&](const auto& left, const auto& right) {
    std::complex<double> total = 0.0;
    for (std::size_t n = 0; n < parts.lambda.size(); ++n) {
      const auto v = std::conj(left[n]) * right[n];
      total += v / (s - parts.lambda[n]) + std::conj(v) / (s - std::conj(parts.lambda[n]));
    }
    return total;
  };
  const std::size_t rank = parts.p.size();
  std::complex<double> w[2][2] = {{1.0, 0.0}, {0.0, 1.0}}, u[2] = {}, v[2] = {};
  for (std::size_t r = 0; r < rank; ++r) {
    u[r] = sum(parts.p[r], parts.b);
    v[r] = sum(parts.b, parts.p[r]);
    for (std::size_t q = 0; q < rank; ++q) w[r][q] += sum(parts.p[r], parts.p[q]);
  }
  const auto determinant = w[0][0] * w[1][1] - w[0][1] * w[1][0];
  const auto x0 = (w[1][1] * u[0] - w[0][1] * u[1]) / determinant;
  const auto x1 = (w[0][0] * u[1] - w[1][0] * u[0]) / determinant;
  return sum(parts.b, parts.b) - v[0] * x0 - v[1] * x1;
}

TEST(Hippo, PartsAreTheMatrixInAnotherBasis) {
  for (const Hippo kind : {Hippo::kLegS, Hippo::kLegT, Hippo::kFourier}) {
    for (const std::int64_t n : {2, 4, 8, 16}) {
      const HippoMatrices matrices = hippo_matrices(kind, n);
      const DiagonalLessLowRank parts = hippo_diagonal(kind, n);
      ASSERT_EQ(parts.lambda.size(), static_cast<std::size_t>(n / 2));
      for (const std::complex<double> s : {std::complex<double>(1.0, 2.0), {0.3, -7.0}, {5.0, 0.1}}) {
        const auto expected = transfer_of(matrices, s);
        EXPECT_LE(std::abs(transfer_of(parts, s) - expected), 1e-11 * std::abs(expected))
            << static_cast<int>(kind) << ", " << n << " states at " << s;
      }
    }
  }
}

TEST(Hippo, DiagonalsOfS4d) {
  const auto linear = s4d_linear(4), inverse = s4d_inverse(64);
  EXPECT_EQ(linear[1], std::complex<double>(-0.5, 3.14159265358979323846));
  EXPECT_NEAR(inverse[0].imag(), 64.0 * 63.0 / 3.14159265358979323846, 1e-9);
  EXPECT_EQ(inverse.size(), 32U);
}

}  // namespace
}  // namespace krait::kernels
