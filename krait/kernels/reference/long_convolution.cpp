#include "krait/kernels/reference/long_convolution.h"

#include <vector>

namespace krait::kernels::reference {
namespace {

// Calls body(t, s, tap) for every row t of the sequence, row s that it reads and tap that it reads it with; taps ahead
// follow those behind.
template <class Body>
void for_taps(const LongConvolutionOf<double>& convolution, const SequenceRows& sequence, Body&& body) {
  for (std::int64_t t = 0; t < sequence.rows; ++t) {
    for (std::int64_t j = 0; j < convolution.kernel.columns && j <= t; ++j) {
      body(sequence.first_row + t, sequence.first_row + t - j, j);
    }
    for (std::int64_t j = 0; j < convolution.ahead.columns && t + convolution.first_ahead + j < sequence.rows; ++j) {
      body(sequence.first_row + t, sequence.first_row + t + convolution.first_ahead + j,
           convolution.kernel.columns + j);
    }
  }
}

double tap_of(const LongConvolutionOf<double>& convolution, std::int64_t channel, std::int64_t tap) {
  const std::int64_t behind = convolution.kernel.columns;
  return tap < behind ? convolution.kernel.row(channel)[tap] : convolution.ahead.row(channel)[tap - behind];
}

}  // namespace

void long_convolution(const LongConvolutionOf<double>& convolution, Rows<const double> x,
                      std::span<const SequenceRows> sequences, Rows<double> y) {
  for (const SequenceRows& sequence : sequences) {
    for (std::int64_t c = 0; c < x.columns; ++c) {
      std::vector<double> sums(static_cast<std::size_t>(sequence.rows));
      for_taps(convolution, sequence, [&](std::int64_t t, std::int64_t s, std::int64_t tap) {
        sums[static_cast<std::size_t>(t - sequence.first_row)] += tap_of(convolution, c, tap) * x.row(s)[c];
      });
      for (std::int64_t t = sequence.first_row; t < sequence.first_row + sequence.rows; ++t) {
        const double skip = convolution.d == nullptr ? 0.0 : convolution.d[c] * x.row(t)[c];
        y.row(t)[c] = sums[static_cast<std::size_t>(t - sequence.first_row)] + skip;
      }
    }
  }
}

void long_convolution_backward(const LongConvolutionOf<double>& convolution, Rows<const double> x,
                               Rows<const double> dy, std::span<const SequenceRows> sequences,
                               const LongConvolutionGradientsOf<double>& gradients) {
  const std::int64_t behind = convolution.kernel.columns;
  for (const SequenceRows& sequence : sequences) {
    for (std::int64_t c = 0; c < x.columns; ++c) {
      std::vector<double> dx(static_cast<std::size_t>(sequence.rows));
      for_taps(convolution, sequence, [&](std::int64_t t, std::int64_t s, std::int64_t tap) {
        dx[static_cast<std::size_t>(s - sequence.first_row)] += tap_of(convolution, c, tap) * dy.row(t)[c];
        const Rows<double>& taps = tap < behind ? gradients.kernel : gradients.ahead;
        if (!taps.empty()) taps.row(c)[tap < behind ? tap : tap - behind] += dy.row(t)[c] * x.row(s)[c];
      });
      for (std::int64_t t = sequence.first_row; t < sequence.first_row + sequence.rows; ++t) {
        const double skip = convolution.d == nullptr ? 0.0 : convolution.d[c] * dy.row(t)[c];
        if (gradients.d != nullptr) gradients.d[c] += dy.row(t)[c] * x.row(t)[c];
        if (!gradients.x.empty()) gradients.x.row(t)[c] = dx[static_cast<std::size_t>(t - sequence.first_row)] + skip;
      }
    }
  }
}

}  // namespace krait::kernels::reference
