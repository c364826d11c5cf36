#include "krait/kernels/s4_output.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "krait/core/check.h"
#include "krait/kernels/complex_pairs.h"
#include "krait/kernels/s4_states.h"

namespace krait::kernels {
namespace {

using Complex = std::complex<double>;
using Matrix = std::vector<Complex>;  // [n, n], row-major

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Solves a x = right for `columns` right-hand sides [n, columns] in place: Gauss with the largest pivot of a column.
void solve(Matrix a, std::int64_t n, std::int64_t columns, std::vector<Complex>& right) {
  for (std::int64_t k = 0; k < n; ++k) {
    std::int64_t pivot = k;
    for (std::int64_t i = k + 1; i < n; ++i) {
      if (std::abs(a[at(i * n + k)]) > std::abs(a[at(pivot * n + k)])) pivot = i;
    }
    KRAIT_CHECK(a[at(pivot * n + k)] != 0.0, "a singular matrix at column {} of {}", k, n);
    if (pivot != k) {
      std::swap_ranges(a.begin() + k * n, a.begin() + (k + 1) * n, a.begin() + pivot * n);
      std::swap_ranges(right.begin() + k * columns, right.begin() + (k + 1) * columns, right.begin() + pivot * columns);
    }
    const Complex inverse = 1.0 / a[at(k * n + k)];
    for (std::int64_t i = k + 1; i < n; ++i) {
      const Complex factor = product_of(a[at(i * n + k)], inverse);
      if (factor == 0.0) continue;
      for (std::int64_t j = k; j < n; ++j) a[at(i * n + j)] -= product_of(factor, a[at(k * n + j)]);
      for (std::int64_t j = 0; j < columns; ++j) {
        right[at(i * columns + j)] -= product_of(factor, right[at(k * columns + j)]);
      }
    }
  }
  for (std::int64_t k = n - 1; k >= 0; --k) {
    for (std::int64_t j = 0; j < columns; ++j) {
      Complex sum = right[at(k * columns + j)];
      for (std::int64_t i = k + 1; i < n; ++i) sum -= product_of(a[at(k * n + i)], right[at(i * columns + j)]);
      right[at(k * columns + j)] = sum / a[at(k * n + k)];
    }
  }
}

Matrix multiply(const Matrix& a, const Matrix& b, std::int64_t n) {
  Matrix result(a.size());
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < n; ++k) {
      const Complex factor = a[at(i * n + k)];
      for (std::int64_t j = 0; j < n; ++j) result[at(i * n + j)] += product_of(factor, b[at(k * n + j)]);
    }
  }
  return result;
}

// 1 - Abar^length.
Matrix complement_of_power(const Matrix& step, std::int64_t n, std::int64_t length) {
  Matrix power(step.size()), square = step;
  for (std::int64_t i = 0; i < n; ++i) power[at(i * n + i)] = 1.0;
  for (std::int64_t rest = length; rest > 0; rest /= 2) {
    if (rest % 2 == 1) power = multiply(power, square, n);
    if (rest > 1) square = multiply(square, square, n);
  }
  for (Complex& v : power) v = -v;
  for (std::int64_t i = 0; i < n; ++i) power[at(i * n + i)] += 1.0;
  return power;
}

// Calls body(matrix, row) for each copy's row of N values of every channel, with its 1 - Abar^length; what body leaves
// in the row is written to `to`.
template <class T, class Body>
void for_outputs(ThreadPool& pool, const S4KernelOf<T>& p, std::int64_t length, T* to, Body&& body) {
  check_s4(p, p.copies * p.channels);
  pool.parallel_for(p.channels, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t h = first; h < last; ++h) {
      const Matrix complement = complement_of_power(s4_matrices(p, h).step, 2 * p.states, length);
      for (std::int64_t copy = 0; copy < p.copies; ++copy) {
        const std::int64_t begin = 2 * (copy * p.channels + h) * p.states;
        std::vector<Complex> row = s4_whole_vector(p.c + begin, p.states);
        body(complement, row);
        for (std::int64_t n = 0; n < p.states; ++n) {
          to[begin + 2 * n] = static_cast<T>(row[at(n)].real());
          to[begin + 2 * n + 1] = static_cast<T>(row[at(n)].imag());
        }
      }
    }
  });
}

Matrix transposed(const Matrix& a, std::int64_t n) {
  Matrix result(a.size());
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) result[at(j * n + i)] = a[at(i * n + j)];
  }
  return result;
}

}  // namespace

template <class T>
std::vector<Complex> s4_whole_vector(const T* pairs, std::int64_t states) {
  std::vector<Complex> result;
  for (std::int64_t n = 0; n < states; ++n) {
    result.emplace_back(static_cast<double>(pairs[2 * n]), static_cast<double>(pairs[2 * n + 1]));
  }
  for (std::int64_t n = 0; n < states; ++n) result.push_back(std::conj(result[at(n)]));
  return result;
}

template <class T>
S4Matrices s4_matrices(const S4KernelOf<T>& p, std::int64_t h) {
  const std::int64_t n = 2 * p.states, set = h % p.sets * p.states;
  const double dt = p.rate * std::exp(static_cast<double>(p.log_dt[h]));
  Matrix half(at(n * n));  // dt A / 2
  for (std::int64_t i = 0; i < p.states; ++i) {
    const Complex lambda(-std::exp(static_cast<double>(p.log_decay[set + i])),
                         static_cast<double>(p.frequency[set + i]));
    half[at(i * n + i)] = 0.5 * dt * lambda;
    half[at((p.states + i) * (n + 1))] = 0.5 * dt * std::conj(lambda);
  }
  for (std::int64_t r = 0; r < p.rank; ++r) {
    const std::vector<Complex> column = s4_whole_vector(p.p + 2 * (r * p.sets * p.states + set), p.states);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) half[at(i * n + j)] -= 0.5 * dt * column[at(i)] * std::conj(column[at(j)]);
    }
  }
  S4Matrices result{.step = half, .input = s4_whole_vector(p.b + 2 * set, p.states)};
  for (Complex& v : half) v = -v;
  for (std::int64_t i = 0; i < n; ++i) {
    half[at(i * n + i)] += 1.0;
    result.step[at(i * n + i)] += 1.0;
    result.input[at(i)] *= dt;
  }
  solve(half, n, n, result.step);
  solve(half, n, 1, result.input);
  return result;
}

template <class T>
void s4_output_for_kernel(ThreadPool& pool, const S4KernelOf<T>& parameters, std::int64_t length, T* c_of_kernel) {
  for_outputs(pool, parameters, length, c_of_kernel, [](const Matrix& complement, std::vector<Complex>& row) {
    std::vector<Complex> product(row.size());
    for (std::size_t i = 0; i < row.size(); ++i) {
      for (std::size_t j = 0; j < row.size(); ++j) product[j] += product_of(row[i], complement[i * row.size() + j]);
    }
    row = product;
  });
}

template <class T>
void s4_output_for_steps(ThreadPool& pool, const S4KernelOf<T>& parameters, std::int64_t length, T* c_of_steps) {
  for_outputs(pool, parameters, length, c_of_steps, [](const Matrix& complement, std::vector<Complex>& row) {
    const auto n = static_cast<std::int64_t>(row.size());
    solve(transposed(complement, n), n, 1, row);
  });
}

template std::vector<Complex> s4_whole_vector(const float*, std::int64_t);
template std::vector<Complex> s4_whole_vector(const double*, std::int64_t);
template S4Matrices s4_matrices(const S4KernelOf<float>&, std::int64_t);
template S4Matrices s4_matrices(const S4KernelOf<double>&, std::int64_t);
template void s4_output_for_kernel(ThreadPool&, const S4KernelOf<float>&, std::int64_t, float*);
template void s4_output_for_kernel(ThreadPool&, const S4KernelOf<double>&, std::int64_t, double*);
template void s4_output_for_steps(ThreadPool&, const S4KernelOf<float>&, std::int64_t, float*);
template void s4_output_for_steps(ThreadPool&, const S4KernelOf<double>&, std::int64_t, double*);

}  // namespace krait::kernels
