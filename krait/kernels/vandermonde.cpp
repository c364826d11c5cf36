#include "krait/kernels/vandermonde.h"

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/complex_pairs.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_VANDERMONDE_CPP_
#define KRAIT_KERNELS_VANDERMONDE_CPP_
namespace krait::kernels {
namespace {

using Complex = std::complex<double>;

constexpr std::int64_t kMostLanes = 16;

std::int64_t round_up(std::int64_t value) { return (value + kMostLanes - 1) / kMostLanes * kMostLanes; }

// How rows of L values are cut.
struct PowerShape {
  std::int64_t states;  // M
  std::int64_t planes;  // 2 M rounded up: real parts of all powers, then imaginary parts, then zeros
  std::int64_t stride;  // J
  std::int64_t blocks;  // L / J rounded up

  PowerShape(std::int64_t count, std::int64_t length) : states(count), planes(round_up(2 * count)), stride(kMostLanes) {
    while (stride * stride < 4 * length && stride < 256) stride *= 2;
    blocks = (length + stride - 1) / stride;
  }
  std::int64_t length() const { return stride * blocks; }
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/vandermonde.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// powers[j][plane] = z^j for j < J, and `last` = z^J.
void take_powers(const PowerShape& shape, const Complex* z, float* HWY_RESTRICT powers, Complex* last) {
  const std::int64_t states = shape.states;
  std::vector<double> numbers(static_cast<std::size_t>(4 * states));
  double* HWY_RESTRICT re = numbers.data();
  double* HWY_RESTRICT im = re + states;
  double* HWY_RESTRICT z_re = im + states;
  double* HWY_RESTRICT z_im = z_re + states;
  for (std::int64_t n = 0; n < states; ++n) {
    re[n] = 1.0, im[n] = 0.0;
    z_re[n] = z[n].real(), z_im[n] = z[n].imag();
  }
  for (std::int64_t j = 0; j < shape.stride; ++j, powers += shape.planes) {
    float* HWY_RESTRICT real = powers;
    float* HWY_RESTRICT imaginary = powers + states;
    for (std::int64_t n = 0; n < states; ++n) {
      real[n] = static_cast<float>(re[n]);
      imaginary[n] = static_cast<float>(im[n]);
      const double next = re[n] * z_re[n] - im[n] * z_im[n];
      im[n] = re[n] * z_im[n] + im[n] * z_re[n];
      re[n] = next;
    }
    std::fill(powers + 2 * states, powers + shape.planes, 0.0F);
  }
  for (std::int64_t n = 0; n < states; ++n) last[n] = {re[n], im[n]};
}

// product [rows, columns] = a [rows, inner] b [inner, columns], dense; columns a multiple of kMostLanes.
void multiply_powers(const float* a, const float* b, std::int64_t rows, std::int64_t inner, std::int64_t columns,
                     float* product) {
  for_gemm_columns(columns, [&](auto vectors, std::int64_t column) HWY_ATTR {
    for_gemm_rows(rows, [&](auto count, std::int64_t row) HWY_ATTR {
      GemmBlock<decltype(count)::value, decltype(vectors)::value> block;
      block.clear();
      block.accumulate(
          {.k = inner, .a = a + row * inner, .a_row = inner, .a_column = 1, .b = b + column, .ldb = columns});
      for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t v = 0; v < vectors; ++v) {
          hn::StoreU(block.v[i][v], F32(),
                     product + (row + i) * columns + column + v * static_cast<std::int64_t>(kLanes));
        }
      }
    });
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(take_powers);
HWY_EXPORT(multiply_powers);

// moments[r, n] = sum_b z^(J b) partial[r, b][n].
void add_blocks(const PowerShape& shape, const Complex* strides, std::int64_t rows, const float* partial,
                Complex* moments) {
  for (std::int64_t r = 0; r < rows; ++r, moments += shape.states) {
    // Horner's rule: the last block first.
    std::fill_n(moments, shape.states, Complex(0.0));
    for (std::int64_t b = shape.blocks - 1; b >= 0; --b) {
      const float* from = partial + (r * shape.blocks + b) * shape.planes;
      for (std::int64_t n = 0; n < shape.states; ++n) {
        moments[n] = product_of(moments[n], strides[n]) + Complex(from[n], from[shape.states + n]);
      }
    }
  }
}

}  // namespace

std::size_t vandermonde_scratch(std::int64_t states, std::int64_t rows, std::int64_t length) {
  const PowerShape shape(states, length);
  const std::int64_t powers = shape.stride * shape.planes;
  return static_cast<std::size_t>(2 * powers + rows * shape.blocks * (shape.planes + shape.stride));
}

void vandermonde_sums(std::span<const Complex> z, std::span<const Complex> weights, std::span<float> scratch,
                      RowsOut sums) {
  const PowerShape shape(static_cast<std::int64_t>(z.size()), sums.columns);
  KRAIT_CHECK_EQ(static_cast<std::int64_t>(weights.size()), sums.rows * shape.states);
  float* powers = scratch.data();                                     // [J, planes]
  float* across = powers + shape.stride * shape.planes;               // [planes, J]
  float* starts = across + shape.stride * shape.planes;               // [R, blocks, planes]
  float* product = starts + sums.rows * shape.blocks * shape.planes;  // [R, blocks, J]
  std::vector<Complex> strides(z.size()), power(z.size());
  HWY_DYNAMIC_DISPATCH(take_powers)(shape, z.data(), powers, strides.data());
  for (std::int64_t j = 0; j < shape.stride; ++j) {
    for (std::int64_t k = 0; k < shape.planes; ++k) across[k * shape.stride + j] = powers[j * shape.planes + k];
  }
  for (std::int64_t r = 0; r < sums.rows; ++r) {
    std::copy_n(weights.data() + r * shape.states, shape.states, power.data());
    for (std::int64_t b = 0; b < shape.blocks; ++b) {
      float* start = starts + (r * shape.blocks + b) * shape.planes;
      for (std::int64_t n = 0; n < shape.states; ++n) {
        Complex& value = power[static_cast<std::size_t>(n)];
        start[n] = static_cast<float>(2.0 * value.real());
        start[shape.states + n] = static_cast<float>(-2.0 * value.imag());
        value = product_of(value, strides[static_cast<std::size_t>(n)]);
      }
      std::fill(start + 2 * shape.states, start + shape.planes, 0.0F);
    }
  }
  HWY_DYNAMIC_DISPATCH(multiply_powers)
  (starts, across, sums.rows * shape.blocks, shape.planes, shape.stride, product);
  for (std::int64_t r = 0; r < sums.rows; ++r) std::copy_n(product + r * shape.length(), sums.columns, sums.row(r));
}

void vandermonde_moments(std::span<const Complex> z, RowsIn values, std::span<float> scratch,
                         std::span<Complex> moments, std::span<Complex> derivatives) {
  const PowerShape shape(static_cast<std::int64_t>(z.size()), values.columns);
  const std::int64_t length = shape.length();
  KRAIT_CHECK_EQ(static_cast<std::int64_t>(moments.size()), values.rows * shape.states);
  KRAIT_CHECK_EQ(derivatives.size(), moments.size());
  float* powers = scratch.data();                        // [J, planes]
  float* padded = powers + shape.stride * shape.planes;  // [R, blocks, J]
  float* partial = padded + values.rows * length;        // [R, blocks, planes]
  std::vector<Complex> strides(z.size());
  HWY_DYNAMIC_DISPATCH(take_powers)(shape, z.data(), powers, strides.data());
  const auto sum_blocks = [&](std::span<Complex> result) {
    HWY_DYNAMIC_DISPATCH(multiply_powers)
    (padded, powers, values.rows * shape.blocks, shape.stride, shape.planes, partial);
    add_blocks(shape, strides.data(), values.rows, partial, result.data());
  };
  for (std::int64_t r = 0; r < values.rows; ++r) {
    float* row = padded + r * length;
    std::fill(std::copy_n(values.row(r), values.columns, row), row + length, 0.0F);
  }
  sum_blocks(moments);
  // The derivative is the sum of (l + 1) values[l + 1] z^l.
  for (std::int64_t i = 0; i < values.rows * length; ++i) {
    const std::int64_t l = i % length;
    padded[i] = l + 1 < length ? static_cast<float>(l + 1) * padded[i + 1] : 0.0F;
  }
  sum_blocks(derivatives);
}

}  // namespace krait::kernels
#endif
