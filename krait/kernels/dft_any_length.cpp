#include "krait/kernels/dft_any_length.h"

#include <cmath>
#include <numbers>

#include "krait/core/check.h"
#include "krait/kernels/complex_pairs.h"

namespace krait::kernels {
namespace {

using Complex = std::complex<double>;

}  // namespace

DftAnyLength::DftAnyLength(std::int64_t length) : length_(length) {
  KRAIT_CHECK(length >= 1, "a transform of {} values", length);
  std::int64_t rest = length;
  for (; rest % 4 == 0; rest /= 4) radices_.push_back(4);
  for (std::int64_t p = 2; p * p <= rest; ++p) {
    for (; rest % p == 0; rest /= p) radices_.push_back(p);
  }
  if (rest > 1) radices_.push_back(rest);
  for (std::int64_t k = 0; k < length; ++k) {
    const double angle = -2.0 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(length);
    roots_.emplace_back(std::cos(angle), std::sin(angle));
  }
}

void DftAnyLength::transform(std::span<const Complex> from, std::span<Complex> to) const {
  KRAIT_CHECK_EQ(static_cast<std::int64_t>(from.size()), length_);
  KRAIT_CHECK_EQ(static_cast<std::int64_t>(to.size()), length_);
  transform_part(from.data(), 1, to.data(), length_, 0);
}

// `stride` is also how far apart the roots of this part stand, since stride * length is the whole length.
void DftAnyLength::transform_part(const Complex* from, std::int64_t stride, Complex* to, std::int64_t length,
                                  std::size_t level) const {
  if (length == 1) {
    *to = *from;
    return;
  }
  const std::int64_t radix = radices_[level], part = length / radix;
  for (std::int64_t q = 0; q < radix; ++q) {
    transform_part(from + q * stride, stride * radix, to + q * part, part, level + 1);
  }
  if (radix == 4) {
    for (std::int64_t j = 0; j < part; ++j) {
      const Complex a = to[j], b = product_of(to[part + j], roots_[static_cast<std::size_t>(j * stride)]);
      const Complex c = product_of(to[2 * part + j], roots_[static_cast<std::size_t>(2 * j * stride)]);
      const Complex d = product_of(to[3 * part + j], roots_[static_cast<std::size_t>(3 * j * stride)]);
      const Complex odd(b.imag() - d.imag(), d.real() - b.real());  // -i (b - d)
      to[j] = (a + c) + (b + d);
      to[part + j] = (a - c) + odd;
      to[2 * part + j] = (a + c) - (b + d);
      to[3 * part + j] = (a - c) - odd;
    }
    return;
  }
  std::vector<Complex> values(static_cast<std::size_t>(radix));
  for (std::int64_t j = 0; j < part; ++j) {
    for (std::int64_t q = 0; q < radix; ++q) {
      values[static_cast<std::size_t>(q)] =
          product_of(to[q * part + j], roots_[static_cast<std::size_t>(q * j * stride)]);
    }
    for (std::int64_t p = 0; p < radix; ++p) {
      Complex sum = 0.0;
      for (std::int64_t q = 0; q < radix; ++q) {
        sum += product_of(values[static_cast<std::size_t>(q)], root(p * q % radix * part * stride));
      }
      to[p * part + j] = sum;
    }
  }
}

}  // namespace krait::kernels
