// The complex Fourier transform of any length in double: X[k] = sum_l x[l] e^(-2 pi i k l / n). Decimation in time over
// the prime factors, fours first; a prime factor p costs p operations a value, so a prime length is the plain sum. For
// what is made once a step for each channel and has a length of its own choosing (the kernel of S4); sequences are
// convolved by simd/fft-inl.h.
#pragma once

#include <complex>
#include <cstdint>
#include <span>
#include <vector>

namespace krait::kernels {

class DftAnyLength {
 public:
  explicit DftAnyLength(std::int64_t length);

  std::int64_t length() const { return length_; }
  // Distinct, `length` values each.
  void transform(std::span<const std::complex<double>> from, std::span<std::complex<double>> to) const;
  // e^(-2 pi i k / length).
  std::complex<double> root(std::int64_t k) const { return roots_[static_cast<std::size_t>(k % length_)]; }

 private:
  void transform_part(const std::complex<double>* from, std::int64_t stride, std::complex<double>* to,
                      std::int64_t length, std::size_t level) const;

  std::int64_t length_;
  std::vector<std::int64_t> radices_;
  std::vector<std::complex<double>> roots_;
};

}  // namespace krait::kernels
