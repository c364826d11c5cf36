// What a real Fourier transform of one length needs to know beforehand: its factors and roots of unity. The transform
// itself is simd/fft-inl.h, which does as many channels at once as a vector has lanes.
//
// A real transform of even length n goes through a complex one of n / 2 points, z[j] = x[2j] + i x[2j+1]. That one runs
// in place, decimation in frequency (Gentleman & Sande 1966), with radices 5, 3, 4 and 2 in this order, and leaves
// frequency k at position(k); the inverse starts from there, so nothing is ever put in order.
// Roots are computed in double and rounded once.
#pragma once

#include <cstdint>
#include <vector>

namespace krait::kernels {

// The smallest n >= at_least that is even and has no prime factor but 2, 3 and 5.
std::int64_t good_fft_length(std::int64_t at_least);

class FftPlan {
 public:
  // A stage takes blocks of radix * span points: butterflies over points that stand `span` apart, then (unless span
  // is 1) a product with the roots e^(-2 pi i j p / (radix span)).
  struct Stage {
    std::int64_t radix = 0, span = 0;
    std::int64_t roots = 0;  // where the stage's roots begin, [span][radix - 1] complex numbers
  };

  // As good_fft_length() gives it.
  explicit FftPlan(std::int64_t length);

  std::int64_t length() const { return length_; }
  std::int64_t points() const { return length_ / 2; }  // complex ones
  const std::vector<Stage>& stages() const { return stages_; }
  const float* roots(const Stage& stage) const { return roots_.data() + 2 * stage.roots; }
  std::int64_t position(std::int64_t frequency) const { return positions_[static_cast<std::size_t>(frequency)]; }

  // Frequencies k and points() - k are unfolded from z together: pair k, 0 <= k < pairs().
  std::int64_t pairs() const { return points() / 2 + 1; }
  std::int64_t partner(std::int64_t pair) const { return pair == 0 ? 0 : points() - pair; }
  // e^(-2 pi i k / length), real part and imaginary part.
  const float* fold_root(std::int64_t pair) const { return fold_roots_.data() + 2 * pair; }

 private:
  std::int64_t length_;
  std::vector<Stage> stages_;
  std::vector<float> roots_, fold_roots_;
  std::vector<std::int64_t> positions_;
};

}  // namespace krait::kernels
