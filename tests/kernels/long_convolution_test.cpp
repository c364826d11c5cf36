#include "krait/kernels/long_convolution.h"

#include <algorithm>
#include <cmath>

#include "krait/kernels/fft_plan.h"
#include "krait/kernels/reference/long_convolution.h"
#include "tests/kernels/double_matrix.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

struct Case {
  Matrix x, kernel, ahead, d;
  LongConvolution convolution;

  // No taps ahead: none.
  Case(std::int64_t rows, std::int64_t channels, std::int64_t taps, std::int64_t taps_ahead, std::int64_t first_ahead,
       Random& random)
      : x(rows, channels, 3, 1), kernel(channels, taps, 2, 1), ahead(channels, taps_ahead, 1), d(1, channels) {
    x.fill_normal(random);
    kernel.fill_normal(random);
    ahead.fill_normal(random);
    d.fill_normal(random);
    convolution = {.kernel = kernel.in(),
                   .ahead = taps_ahead == 0 ? RowsIn() : ahead.in(),
                   .first_ahead = first_ahead,
                   .d = d.data()};
  }
};

// The oracle on the same numbers.
struct Oracle {
  WideMatrix x, kernel, ahead, d, dy;
  LongConvolutionOf<double> convolution;
  WideMatrix y, dx, dkernel, dahead, dd;

  Oracle(const Case& c, std::span<const SequenceRows> sequences, const Matrix& up)
      : x(c.x),
        kernel(c.kernel),
        ahead(c.ahead),
        d(c.d),
        dy(up),
        y(c.x),
        dx(c.x),
        dkernel(c.kernel),
        dahead(c.ahead),
        dd(c.d) {
    convolution = {.kernel = kernel.in(),
                   .ahead = c.convolution.ahead.empty() ? Rows<const double>() : ahead.in(),
                   .first_ahead = c.convolution.first_ahead,
                   .d = c.convolution.d == nullptr ? nullptr : d.data()};
    for (WideMatrix* zero : {&y, &dx, &dkernel, &dahead, &dd}) zero->clear();
    reference::long_convolution(convolution, x.in(), sequences, y.out());
    reference::long_convolution_backward(
        convolution, x.in(), dy.in(), sequences,
        {.x = dx.out(), .kernel = dkernel.out(), .ahead = dahead.out(), .d = dd.data()});
  }
};

double norm(const Matrix& m, std::int64_t first, std::int64_t rows, std::int64_t column) {
  double sum = 0.0;
  for (std::int64_t r = first; r < first + rows; ++r) sum += std::pow(m.at(r, column), 2);
  return std::sqrt(sum);
}
double row_norm(const Matrix& m, std::int64_t row) {
  double sum = 0.0;
  for (std::int64_t c = 0; c < m.columns(); ++c) sum += std::pow(m.at(row, c), 2);
  return std::sqrt(sum);
}

// A transform of n points by butterflies is wrong by at most 6.7 u log2(n) of its norm (Higham, Accuracy and Stability,
// theorem 24.2, roots rounded once; larger radices round less), and unfolding counts as one more butterfly. A product
// of two spectra brings their errors together, |a| |b| each, and is wrong by 3 u itself; coming back adds the error of
// another transform of what the circle holds. That is at most |a| |b| sqrt(n) in norm by Cauchy and Schwarz, but it
// is spread over n values; the largest takes what the norms of both give, 3 |a| |b| in all, and a factor of two is
// left for the spread not being even.
double transform_roundings(std::int64_t length) {
  return 2.0 * 3.0 * (6.7 * (std::log2(static_cast<double>(length)) + 1.0) + 3.0) * kRounding;
}

double bound_for(std::int64_t rows) {
  return transform_roundings(good_fft_length(2 * std::max<std::int64_t>(1, rows)));
}

struct Cut {
  std::vector<SequenceRows> sequences;
  std::int64_t rows = 0;

  explicit Cut(const std::vector<std::int64_t>& lengths) {
    for (const std::int64_t length : lengths) {
      sequences.push_back({.first_row = rows, .rows = length, .state = nullptr});
      rows += length;
    }
  }
};

void expect_matches_oracle(ThreadPool& pool, const Case& c, const Cut& cut, Random& random) {
  const std::int64_t channels = c.x.columns();
  Matrix up(cut.rows, channels, 1, 1);
  up.fill_normal(random);
  const Oracle oracle(c, cut.sequences, up);
  Matrix y(cut.rows, channels, 2, 1), dx(cut.rows, channels, 4, 1);
  Matrix dkernel(channels, c.kernel.columns(), 1), dahead(channels, c.ahead.columns(), 2), dd(1, channels);
  long_convolution(pool, c.convolution, c.x.in(), cut.sequences, y.out());
  for (Matrix* sum : {&dkernel, &dahead, &dd}) sum->fill([] { return 2.0; });
  long_convolution_backward(pool, c.convolution, c.x.in(), up.in(), cut.sequences,
                            {.x = dx.out(),
                             .kernel = dkernel.out(),
                             .ahead = c.convolution.ahead.empty() ? RowsOut() : dahead.out(),
                             .d = dd.data()});
  for (const Matrix* m : {&y, &dx, &dkernel, &dahead}) m->check_gaps();
  for (std::int64_t e = 0; e < channels; ++e) {
    const double taps = row_norm(c.kernel, e) + row_norm(c.ahead, e);
    double sum_bound = 4.0 * kRounding, skip_bound = 4.0 * kRounding;
    for (const SequenceRows& sequence : cut.sequences) {
      const double bound = bound_for(sequence.rows);
      const double x_norm = norm(c.x, sequence.first_row, sequence.rows, e);
      const double up_norm = norm(up, sequence.first_row, sequence.rows, e);
      const double skip = 2.0 * kRounding * std::fabs(c.d.at(0, e));
      for (std::int64_t t = sequence.first_row; t < sequence.first_row + sequence.rows; ++t) {
        ASSERT_NEAR(y.at(t, e), oracle.y.at(t, e), bound * taps * x_norm + skip * std::fabs(c.x.at(t, e)))
            << "row " << t << ", channel " << e;
        ASSERT_NEAR(dx.at(t, e), oracle.dx.at(t, e), bound * taps * up_norm + skip * std::fabs(up.at(t, e)))
            << "dx, row " << t << ", channel " << e;
      }
      // Sums over sequences round once for each, on at most the sum of norms.
      const auto count = static_cast<double>(cut.sequences.size());
      sum_bound += (bound + count * kRounding) * x_norm * up_norm;
      skip_bound += (static_cast<double>(sequence.rows) + count) * kRounding * x_norm * up_norm;
    }
    for (std::int64_t j = 0; j < c.kernel.columns(); ++j) {
      ASSERT_NEAR(dkernel.at(e, j) - 2.0, oracle.dkernel.at(e, j), sum_bound) << "tap " << j << ", channel " << e;
    }
    for (std::int64_t j = 0; j < c.ahead.columns() && !c.convolution.ahead.empty(); ++j) {
      ASSERT_NEAR(dahead.at(e, j) - 2.0, oracle.dahead.at(e, j), sum_bound) << "ahead " << j << ", channel " << e;
    }
    ASSERT_NEAR(dd.at(0, e) - 2.0, oracle.dd.at(0, e), skip_bound) << "D, channel " << e;
  }
}

TEST(LongConvolution, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t rows : {0, 1, 2, 3, 4, 5, 8, 17, 31, 45, 64, 65, 250}) {
      for (const std::int64_t taps : {std::int64_t{1}, std::int64_t{4}, rows, rows + 7}) {
        if (taps == 0) continue;
        for (const std::int64_t channels : {1, 8, 19}) {
          SCOPED_TRACE(::testing::Message() << rows << " rows, " << taps << " taps, " << channels << " channels");
          const Case c(rows, channels, taps, 0, 0, random);
          expect_matches_oracle(pool, c, Cut({rows}), random);
        }
      }
    }
  });
}

TEST(LongConvolution, TapsAheadMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t rows : {1, 2, 5, 16, 33, 90}) {
      for (const std::int64_t taps_ahead : {std::int64_t{1}, std::int64_t{3}, rows, rows + 5}) {
        for (const std::int64_t first : {0, 1, 4}) {
          for (const std::int64_t taps : {std::int64_t{2}, rows + 1}) {
            SCOPED_TRACE(::testing::Message()
                         << rows << " rows, " << taps << " taps, " << taps_ahead << " ahead from " << first);
            const Case c(rows, 5, taps, taps_ahead, first, random);
            expect_matches_oracle(pool, c, Cut({rows}), random);
          }
        }
      }
    }
  });
}

TEST(LongConvolution, ManySequencesMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(3);
    const Cut cut({1, 0, 40, 64, 3, 63, 40, 12, 40});
    const Case c(cut.rows, 21, 64, 50, 1, random);
    expect_matches_oracle(pool, c, cut, random);
    const Case one_channel(cut.rows, 1, 40, 0, 0, random);
    expect_matches_oracle(pool, one_channel, cut, random);
  });
}

TEST(LongConvolution, ALongSequenceMatchesOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(4);
    const Case c(3000, 2, 3000, 0, 0, random);
    expect_matches_oracle(pool, c, Cut({3000}), random);
  });
}

// With one tap of 1 the sequence itself comes back, later, and the error can be held in norm, without the spread over
// the values that the other tests must allow for. Roundings being independent, they add as squares: a butterfly with
// its root rounds four times on the way of a value, 0.58 u each on the mean, hence at most 1.2 u a level; three
// transforms one after the other have 3 (log2(n) + 1) levels.
TEST(LongConvolution, AShiftIsExactInNormAtAllRadices) {
  ThreadPool pool(1);
  on_every_target([&] {
    Random random(5);
    for (const std::int64_t rows : {8, 25, 27, 60, 125, 128, 1000, 1024, 2000, 4096}) {
      Case c(rows, 3, rows, 0, 0, random);
      c.kernel.fill([] { return 0.0; });
      const std::int64_t shift = rows / 3;
      for (std::int64_t e = 0; e < 3; ++e) c.kernel.at(e, shift) = 1.0F;
      c.convolution.d = nullptr;
      Matrix y(rows, 3);
      const SequenceRows sequence{.first_row = 0, .rows = rows, .state = nullptr};
      long_convolution(pool, c.convolution, c.x.in(), {&sequence, 1}, y.out());
      for (std::int64_t e = 0; e < 3; ++e) {
        double squares = 0.0;
        for (std::int64_t t = 0; t < rows; ++t) {
          squares += std::pow(y.at(t, e) - (t < shift ? 0.0F : c.x.at(t - shift, e)), 2);
        }
        const double levels = 3.0 * (std::log2(static_cast<double>(good_fft_length(2 * rows))) + 1.0);
        EXPECT_LE(std::sqrt(squares), 1.2 * std::sqrt(levels) * kRounding * norm(c.x, 0, rows, e)) << rows << " rows";
      }
    }
  });
}

TEST(LongConvolution, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(6);
    const Case c(60, 50, 20, 12, 0, random);
    tests::expect_sequences_and_threads_do_not_matter(
        50, Matrix(1, 1), [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) {
          long_convolution(pool, c.convolution, c.x.in(), sequences, y.out());
        });
    const Cut cut({30, 1, 29});
    Matrix up(60, 50), first_dx, first_dkernel;
    up.fill_normal(random);
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Matrix dx(60, 50), dkernel(50, 20);
      long_convolution_backward(pool, c.convolution, c.x.in(), up.in(), cut.sequences,
                                {.x = dx.out(), .kernel = dkernel.out(), .ahead = {}, .d = nullptr});
      if (threads == 1) first_dx = dx, first_dkernel = dkernel;
      tests::expect_same_bits(dx, first_dx);
      tests::expect_same_bits(dkernel, first_dkernel);
    }
  });
}

TEST(LongConvolution, ResultsMayStandWhereInputsStood) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(7);
    Case c(40, 21, 40, 0, 0, random);
    const Cut cut({40});
    Matrix y(40, 21, 3, 1), up = c.x, dx(40, 21, 3, 1);
    long_convolution(pool, c.convolution, c.x.in(), cut.sequences, y.out());
    long_convolution_backward(pool, c.convolution, c.x.in(), up.in(), cut.sequences,
                              {.x = dx.out(), .kernel = {}, .ahead = {}, .d = nullptr});
    long_convolution_backward(pool, c.convolution, c.x.in(), up.in(), cut.sequences,
                              {.x = up.out(), .kernel = {}, .ahead = {}, .d = nullptr});
    tests::expect_same_bits(up, dx);
    long_convolution(pool, c.convolution, c.x.in(), cut.sequences, c.x.out());
    tests::expect_same_bits(c.x, y);
  });
}

// The loss sum(up * y) is linear in each input alone, so a central difference has no error but rounding: about
// 1e-16 of the loss over the step, 2e-14 of the sums of a hundred terms below 10 here.
TEST(LongConvolution, ReferenceGradientsAreDifferencesOfTheLoss) {
  Random random(8);
  const Cut cut({7, 1, 0, 12});
  for (const std::int64_t first_ahead : {0, 1}) {
    const Case c(cut.rows, 2, 9, 5, first_ahead, random);
    Matrix up(cut.rows, 2);
    up.fill_normal(random);
    Oracle oracle(c, cut.sequences, up);
    WideMatrix y(c.x);
    const auto loss = [&] {
      reference::long_convolution(oracle.convolution, oracle.x.in(), cut.sequences, y.out());
      return tests::dot(oracle.dy, y);
    };
    tests::expect_gradient_is_difference(oracle.x, oracle.dx, 0.5, 1e-12, loss);
    tests::expect_gradient_is_difference(oracle.kernel, oracle.dkernel, 0.5, 1e-12, loss);
    tests::expect_gradient_is_difference(oracle.ahead, oracle.dahead, 0.5, 1e-12, loss);
    tests::expect_gradient_is_difference(oracle.d, oracle.dd, 0.5, 1e-12, loss);
  }
}

}  // namespace
}  // namespace krait::kernels
