#include "krait/kernels/hippo.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "krait/core/check.h"

namespace krait::kernels {
namespace {

using Complex = std::complex<double>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Eigenvalues and eigenvectors (columns of v) of a Hermitian matrix by Jacobi's rotations: each makes one pair of
// off-diagonal entries zero, and sweeps over all pairs converge quadratically (Golub & Van Loan, 8.5).
struct HermitianEigen {
  std::int64_t n;
  std::vector<Complex> a, v;

  HermitianEigen(std::int64_t size, std::vector<Complex> matrix) : n(size), a(std::move(matrix)), v(a.size()) {
    for (std::int64_t i = 0; i < n; ++i) v[at(i * n + i)] = 1.0;
    double total = 0.0;
    for (const Complex& entry : a) total += std::norm(entry);
    constexpr int kMostSweeps = 60;
    for (int sweep = 0;; ++sweep) {
      double outside = 0.0;
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < i; ++j) outside += 2.0 * std::norm(a[at(i * n + j)]);
      }
      if (outside <= 1e-30 * total) return;
      KRAIT_CHECK(sweep < kMostSweeps, "eigenvalues of a {} x {} matrix do not converge", n, n);
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = i + 1; j < n; ++j) rotate(i, j);
      }
    }
  }

  // Columns i and j times [c, -s e; s e*, c] from the right, rows by its adjoint from the left; e is the entry's phase.
  void rotate(std::int64_t i, std::int64_t j) {
    const Complex entry = a[at(i * n + j)];
    const double size = std::abs(entry);
    if (size == 0.0) return;
    const Complex phase = entry / size;
    const double ratio = (a[at(j * n + j)].real() - a[at(i * n + i)].real()) / (2.0 * size);
    const double tangent = std::copysign(1.0, ratio) / (std::fabs(ratio) + std::hypot(ratio, 1.0));
    const double cosine = 1.0 / std::hypot(tangent, 1.0), sine = tangent * cosine;
    const auto turn_columns = [&](std::vector<Complex>& m) {
      for (std::int64_t k = 0; k < n; ++k) {
        const Complex left = m[at(k * n + i)], right = m[at(k * n + j)];
        m[at(k * n + i)] = cosine * left - sine * std::conj(phase) * right;
        m[at(k * n + j)] = sine * phase * left + cosine * right;
      }
    };
    turn_columns(a);
    turn_columns(v);
    for (std::int64_t k = 0; k < n; ++k) {
      const Complex upper = a[at(i * n + k)], lower = a[at(j * n + k)];
      a[at(i * n + k)] = cosine * upper - sine * phase * lower;
      a[at(j * n + k)] = sine * std::conj(phase) * upper + cosine * lower;
    }
    a[at(i * n + j)] = a[at(j * n + i)] = 0.0;
  }
};

// Turns a state's eigenvector: B real and positive, or the first P that is not 0.
void turn_states(DiagonalLessLowRank& parts) {
  for (std::size_t n = 0; n < parts.lambda.size(); ++n) {
    Complex by = parts.b[n];
    for (const auto& p : parts.p) {
      if (std::abs(by) < 1e-12) by = p[n];
    }
    if (std::abs(by) < 1e-12) continue;
    const Complex turn = std::conj(by) / std::abs(by);
    parts.b[n] *= turn;
    for (auto& p : parts.p) p[n] *= turn;
  }
}

// The 2 x 2 blocks have eigenvectors (1, i) / sqrt 2 with eigenvalue -i pi n.
DiagonalLessLowRank fourier_diagonal(const HippoMatrices& matrices, std::int64_t n) {
  DiagonalLessLowRank parts;
  for (std::int64_t i = 0; i < n / 2; ++i) {
    parts.lambda.emplace_back(0.0, -std::numbers::pi * static_cast<double>(i));
    parts.b.emplace_back(matrices.b[at(2 * i)] / std::numbers::sqrt2);
  }
  parts.p = {parts.b};
  return parts;
}

}  // namespace

HippoMatrices hippo_matrices(Hippo kind, std::int64_t n) {
  KRAIT_CHECK(n >= 2 && n % 2 == 0, "{} states of a HiPPO matrix", n);
  HippoMatrices result{.a = std::vector<double>(at(n * n)), .b = {}, .p = {}};
  const auto root = [](std::int64_t i) { return std::sqrt(2.0 * static_cast<double>(i) + 1.0); };
  if (kind == Hippo::kFourier) {
    for (std::int64_t i = 0; i < n; ++i) result.b.push_back(i == 0 ? 1.0 : i % 2 == 0 ? std::numbers::sqrt2 : 0.0);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < n; ++k) result.a[at(i * n + k)] = -result.b[at(i)] * result.b[at(k)];
    }
    for (std::int64_t i = 0; i < n; i += 2) {
      const double frequency = std::numbers::pi * static_cast<double>(i / 2);
      result.a[at(i * n + i + 1)] -= frequency;
      result.a[at((i + 1) * n + i)] += frequency;
    }
    result.p = {result.b};
    return result;
  }
  const bool legs = kind == Hippo::kLegS;
  result.p.resize(legs ? 1 : 2);
  for (std::int64_t i = 0; i < n; ++i) {
    result.b.push_back(legs ? root(i) : 0.5 * root(i));
    const double p = root(i) / std::numbers::sqrt2;
    for (std::size_t r = 0; r < result.p.size(); ++r) {
      result.p[r].push_back(legs || static_cast<std::size_t>(i % 2) == r ? p : 0.0);
    }
    for (std::int64_t k = 0; k < n; ++k) {
      double entry = -root(i) * root(k);
      if (legs) {
        entry = k > i ? 0.0 : k == i ? -static_cast<double>(i + 1) : entry;
      } else {
        entry *= k > i && (k - i) % 2 == 1 ? -0.5 : 0.5;
      }
      result.a[at(i * n + k)] = entry;
    }
  }
  return result;
}

DiagonalLessLowRank hippo_diagonal(Hippo kind, std::int64_t n) {
  const HippoMatrices matrices = hippo_matrices(kind, n);
  if (kind == Hippo::kFourier) return fourier_diagonal(matrices, n);
  // S = A + P P^T - c is skew, so -i S is Hermitian; its eigenvalues are the imaginary parts of S's.
  const double real = kind == Hippo::kLegS ? -0.5 : 0.0;
  std::vector<Complex> hermitian(at(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < n; ++k) {
      double entry = matrices.a[at(i * n + k)] - (i == k ? real : 0.0);
      for (const auto& p : matrices.p) entry += p[at(i)] * p[at(k)];
      hermitian[at(i * n + k)] = Complex(0.0, -entry);
    }
  }
  const HermitianEigen eigen(n, hermitian);
  std::vector<std::int64_t> kept(at(n));
  for (std::int64_t i = 0; i < n; ++i) kept[at(i)] = i;
  const auto value = [&](std::int64_t i) { return eigen.a[at(i * n + i)].real(); };
  std::ranges::sort(kept, {}, value);
  kept.resize(at(n / 2));  // the negative half, the largest first
  std::ranges::reverse(kept);
  DiagonalLessLowRank parts;
  const auto project = [&](const std::vector<double>& vector, std::int64_t column) {
    Complex sum = 0.0;
    for (std::int64_t i = 0; i < n; ++i) sum += std::conj(eigen.v[at(i * n + column)]) * vector[at(i)];
    return sum;
  };
  parts.p.resize(matrices.p.size());
  for (const std::int64_t column : kept) {
    parts.lambda.emplace_back(real, value(column));
    parts.b.push_back(project(matrices.b, column));
    for (std::size_t r = 0; r < parts.p.size(); ++r) parts.p[r].push_back(project(matrices.p[r], column));
  }
  turn_states(parts);
  return parts;
}

std::vector<Complex> s4d_linear(std::int64_t n) {
  std::vector<Complex> result;
  for (std::int64_t i = 0; i < n / 2; ++i) result.emplace_back(-0.5, std::numbers::pi * static_cast<double>(i));
  return result;
}

std::vector<Complex> s4d_inverse(std::int64_t n) {
  std::vector<Complex> result;
  const auto size = static_cast<double>(n);
  for (std::int64_t i = 0; i < n / 2; ++i) {
    result.emplace_back(-0.5, size / std::numbers::pi * (size / (2.0 * static_cast<double>(i) + 1.0) - 1.0));
  }
  return result;
}

}  // namespace krait::kernels
