#include "krait/kernels/fft_plan.h"

#include <cmath>
#include <numbers>

#include "krait/core/check.h"

namespace krait::kernels {
namespace {

std::int64_t without_factor(std::int64_t n, std::int64_t factor) {
  while (n % factor == 0) n /= factor;
  return n;
}

bool is_good(std::int64_t n) { return n % 2 == 0 && without_factor(without_factor(without_factor(n, 2), 3), 5) == 1; }

// e^(-2 pi i k / n), k < n.
void append_root(std::int64_t k, std::int64_t n, std::vector<float>& roots) {
  const double angle = 2.0 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
  roots.push_back(static_cast<float>(std::cos(angle)));
  roots.push_back(static_cast<float>(-std::sin(angle)));
}

}  // namespace

std::int64_t good_fft_length(std::int64_t at_least) {
  std::int64_t n = at_least < 2 ? 2 : at_least + at_least % 2;
  while (!is_good(n)) n += 2;
  return n;
}

FftPlan::FftPlan(std::int64_t length) : length_(length) {
  KRAIT_CHECK(length >= 2 && is_good(length), "length {} of a Fourier transform", length);
  std::int64_t rest = points();
  const auto take = [&](std::int64_t radix) {
    while (rest % radix == 0) {
      rest /= radix;
      stages_.push_back({.radix = radix, .span = rest, .roots = static_cast<std::int64_t>(roots_.size()) / 2});
      for (std::int64_t j = 0; j < rest && rest > 1; ++j) {
        for (std::int64_t p = 1; p < radix; ++p) append_root(j * p, radix * rest, roots_);
      }
    }
  };
  for (const std::int64_t radix : {5, 3, 4, 2}) take(radix);
  for (std::int64_t k = 0; k < points(); ++k) {
    std::int64_t position = 0, frequency = k;
    for (const Stage& stage : stages_) {
      position += frequency % stage.radix * stage.span;
      frequency /= stage.radix;
    }
    positions_.push_back(position);
  }
  for (std::int64_t k = 0; k < pairs(); ++k) append_root(k, length, fold_roots_);
}

}  // namespace krait::kernels
