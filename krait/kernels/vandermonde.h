// Sums of powers of complex numbers and their transpose, for R rows over the same M numbers:
//   sums[r, l]    = 2 Re sum_n weights[r, n] z[n]^l,          l = 0 … L-1
//   moments[r, n] = sum_l values[r, l] z[n]^l
// With l = J b + j, z^l = z^(J b) z^j: powers up to J and multiples of J are taken in double and rounded once, and the
// sums are small matrix products in f32 (over n, and over j; over b in double). So no error grows with l, and with J
// about 2 sqrt(L) all powers of a channel stand in the first caches.
#pragma once

#include <complex>
#include <span>

#include "krait/kernels/rows.h"

namespace krait::kernels {

// Floats of scratch for either, aligned.
std::size_t vandermonde_scratch(std::int64_t states, std::int64_t rows, std::int64_t length);

// z [M], weights [R, M], sums [R, L].
void vandermonde_sums(std::span<const std::complex<double>> z, std::span<const std::complex<double>> weights,
                      std::span<float> scratch, RowsOut sums);

// values [R, L]; moments [R, M] of values, and derivatives [R, M] by z: sum_l l values[r, l] z[n]^(l-1).
void vandermonde_moments(std::span<const std::complex<double>> z, RowsIn values, std::span<float> scratch,
                         std::span<std::complex<double>> moments, std::span<std::complex<double>> derivatives);

}  // namespace krait::kernels
