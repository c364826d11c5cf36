// Complex parameters as checkpoints have them, pairs of a real and an imaginary part.
#pragma once

#include <complex>
#include <cstdint>

namespace krait::kernels {

template <class T>
std::complex<double> complex_at(const T* pairs, std::int64_t index) {
  return {static_cast<double>(pairs[2 * index]), static_cast<double>(pairs[2 * index + 1])};
}
template <class T>
void add_complex(T* pairs, std::int64_t index, std::complex<double> value) {
  pairs[2 * index] += static_cast<T>(value.real());
  pairs[2 * index + 1] += static_cast<T>(value.imag());
}

// a b without the care for infinities that operator* takes, which costs more than the product.
inline std::complex<double> product_of(std::complex<double> a, std::complex<double> b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

}  // namespace krait::kernels
