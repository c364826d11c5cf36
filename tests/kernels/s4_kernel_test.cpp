#include "krait/kernels/s4_kernel.h"

#include <cmath>
#include <numbers>

#include "krait/kernels/dft_any_length.h"
#include "krait/kernels/hippo.h"
#include "krait/kernels/long_convolution.h"
#include "krait/kernels/reference/s4_kernel.h"
#include "krait/kernels/s4_output.h"
#include "tests/kernels/double_matrix.h"

namespace krait::kernels {
namespace {

using tests::expect_gradient_near;
using tests::kRounding;
using tests::largest_of;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

// Parameters from a HiPPO matrix, a little disturbed in each set, as training would.
struct Case {
  Matrix log_dt, log_decay, frequency, p, b, c;
  S4Kernel parameters;

  Case(Hippo kind, std::int64_t channels, std::int64_t n, std::int64_t sets, std::int64_t copies, Random& random)
      : log_dt(1, channels), log_decay(sets, n / 2), frequency(sets, n / 2), b(sets, n), c(copies * channels, n) {
    const DiagonalLessLowRank parts = hippo_diagonal(kind, n);
    const auto rank = static_cast<std::int64_t>(parts.p.size());
    p = Matrix(rank * sets, n);
    const auto near = [&](double v) { return static_cast<float>(v + 0.01 * random.normal()); };
    log_dt.fill_uniform(random, std::log(1e-3), std::log(1e-1));
    c.fill_normal(random);
    for (std::int64_t s = 0; s < sets; ++s) {
      for (std::int64_t i = 0; i < n / 2; ++i) {
        const auto at = static_cast<std::size_t>(i);
        log_decay.at(s, i) = near(std::log(std::max(1e-4, -parts.lambda[at].real())));
        frequency.at(s, i) = near(parts.lambda[at].imag());
        set(b, s, i, near(parts.b[at].real()), near(parts.b[at].imag()));
        for (std::int64_t r = 0; r < rank; ++r) {
          const std::complex<double> value = parts.p[static_cast<std::size_t>(r)][at];
          set(p, r * sets + s, i, near(value.real()), near(value.imag()));
        }
      }
    }
    parameters = {.channels = channels,
                  .states = n / 2,
                  .sets = sets,
                  .copies = copies,
                  .rank = rank,
                  .rate = 1.0,
                  .log_dt = log_dt.data(),
                  .log_decay = log_decay.data(),
                  .frequency = frequency.data(),
                  .p = p.data(),
                  .b = b.data(),
                  .c = c.data()};
  }
  static void set(Matrix& m, std::int64_t row, std::int64_t pair, float re, float im) {
    m.at(row, 2 * pair) = re;
    m.at(row, 2 * pair + 1) = im;
  }
};

struct Doubles {
  WideMatrix log_dt, log_decay, frequency, p, b, c;
  S4KernelOf<double> parameters;

  explicit Doubles(const Case& from)
      : log_dt(from.log_dt), log_decay(from.log_decay), frequency(from.frequency), p(from.p), b(from.b), c(from.c) {
    const S4Kernel& f = from.parameters;
    parameters = {.channels = f.channels,
                  .states = f.states,
                  .sets = f.sets,
                  .copies = f.copies,
                  .rank = f.rank,
                  .rate = f.rate,
                  .log_dt = log_dt.data(),
                  .log_decay = log_decay.data(),
                  .frequency = frequency.data(),
                  .p = p.data(),
                  .b = b.data(),
                  .c = c.data()};
  }
  S4KernelGradientsOf<double> gradients() {
    return {.log_dt = log_dt.data(),
            .log_decay = log_decay.data(),
            .frequency = frequency.data(),
            .p = p.data(),
            .b = b.data(),
            .c = c.data()};
  }
  void clear() {
    for (WideMatrix* m : {&log_dt, &log_decay, &frequency, &p, &b, &c}) m->clear();
  }
};

constexpr Hippo kKinds[] = {Hippo::kLegS, Hippo::kLegT, Hippo::kFourier};

TEST(DftAnyLength, IsTheSum) {
  Random random(1);
  for (const std::int64_t n : {1, 2, 3, 4, 6, 7, 12, 16, 28, 35, 64, 90, 97}) {
    const DftAnyLength dft(n);
    std::vector<std::complex<double>> from(static_cast<std::size_t>(n)), to(from.size());
    for (auto& v : from) v = {random.normal(), random.normal()};
    dft.transform(from, to);
    for (std::int64_t k = 0; k < n; ++k) {
      std::complex<double> sum = 0.0;
      for (std::int64_t l = 0; l < n; ++l) {
        sum += from[static_cast<std::size_t>(l)] *
               std::polar(1.0, -2.0 * std::numbers::pi * static_cast<double>(k * l % n) / static_cast<double>(n));
      }
      ASSERT_LE(std::abs(to[static_cast<std::size_t>(k)] - sum), 1e-14 * static_cast<double>(n)) << n << ", " << k;
    }
  }
}

// K[l] = C Abar^l Bbar from the matrices: the oracle with C~ = C (1 - Abar^L). Matrices of norm up to dt |A| lose a few
// digits of double where 1 - dt A / 2 is solved; 1e-9 leaves six.
TEST(S4Kernel, OracleIsTheModelStepByStep) {
  Random random(2);
  ThreadPool pool(2);
  for (const Hippo kind : kKinds) {
    for (const std::int64_t length : {1, 2, 7, 32, 45}) {
      Case c(kind, 4, 8, 2, 1, random);
      c.parameters.rate = 1.5;
      const Doubles d(c);
      Doubles of_kernel = d;
      of_kernel.parameters.c = of_kernel.c.data();
      s4_output_for_kernel(pool, d.parameters, length, of_kernel.c.data());
      S4KernelOf<double> parameters = d.parameters;
      parameters.c = of_kernel.c.data();
      WideMatrix kernel(4, length), impulse(length, 4), response(length, 4);
      for (std::int64_t h = 0; h < 4; ++h) impulse.at(0, h) = 1.0;
      reference::s4_kernel(parameters, kernel.out());
      reference::s4_steps(d.parameters, impulse.in(), response.out());
      for (std::int64_t h = 0; h < 4; ++h) {
        for (std::int64_t l = 0; l < length; ++l) {
          ASSERT_NEAR(kernel.at(h, l), response.at(l, h), 1e-9 * largest_of(kernel))
              << static_cast<int>(kind) << ", length " << length << ", channel " << h << ", l " << l;
        }
      }
      WideMatrix back(4, 8);
      s4_output_for_steps(pool, parameters, length, back.data());
      for (std::int64_t h = 0; h < 4; ++h) {
        for (std::int64_t i = 0; i < 8; ++i) ASSERT_NEAR(back.at(h, i), d.c.at(h, i), 1e-6) << h << ", " << i;
      }
    }
  }
}

// All inside is double, so what is left is the rounding to f32, and the sums' own 1e-16 times the largest of the
// spectra that cancel: FouT's have terms up to 1 / (dt 1e-4).
TEST(S4Kernel, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(3);
    for (const Hippo kind : kKinds) {
      for (const std::int64_t length : {1, 2, 5, 16, 17, 30, 31, 63, 100}) {
        for (const std::int64_t copies : {1, 2}) {
          Case c(kind, 4, 10, 2, copies, random);
          if (length == 16) c.parameters.rank = 0;
          const Doubles d(c);
          WideMatrix expected(copies * 4, length);
          reference::s4_kernel(d.parameters, expected.out());
          Matrix kernel(copies * 4, length, 3, 1);
          s4_kernel(pool, c.parameters, kernel.out());
          kernel.check_gaps();
          for (std::int64_t r = 0; r < kernel.rows(); ++r) {
            for (std::int64_t l = 0; l < length; ++l) {
              ASSERT_NEAR(kernel.at(r, l), expected.at(r, l),
                          kRounding * std::fabs(expected.at(r, l)) + 1e-9 * largest_of(expected))
                  << static_cast<int>(kind) << ", length " << length << ", row " << r << ", l " << l;
            }
          }
        }
      }
    }
  });
}

// Kernel in f32 from C~ in f32, applied by transforms in f32, against the steps in double with the C that C~ stands
// for. What PyTorch's S4, in f32 inside, shows at this length is 6e-7 of LegS, 1.5e-5 of FouT and 2.8e-5 of LegT; in
// double the three are alike.
TEST(S4Kernel, ConvolutionAgreesWithSteps) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(4);
    const std::int64_t length = 128;
    for (const Hippo kind : kKinds) {
      Case c(kind, 8, 16, 1, 1, random);
      const Matrix of_steps = c.c;
      s4_output_for_kernel(pool, c.parameters, length, c.c.data());
      Matrix kernel(8, length), u(length, 8), y(length, 8);
      u.fill_normal(random);
      s4_kernel(pool, c.parameters, kernel.out());
      const SequenceRows sequence{.first_row = 0, .rows = length, .state = nullptr};
      long_convolution(pool, {.kernel = kernel.in(), .ahead = {}, .first_ahead = 0, .d = nullptr}, u.in(),
                       {&sequence, 1}, y.out());
      Doubles d(c);
      d.c = WideMatrix(of_steps);
      d.parameters.c = d.c.data();
      const WideMatrix wide(u);
      WideMatrix expected(length, 8);
      reference::s4_steps(d.parameters, wide.in(), expected.out());
      double worst = 0.0;
      for (std::int64_t t = 0; t < length; ++t) {
        for (std::int64_t h = 0; h < 8; ++h) worst = std::max(worst, std::fabs(y.at(t, h) - expected.at(t, h)));
      }
      EXPECT_LE(worst, 1e-6 * largest_of(expected)) << static_cast<int>(kind);
    }
  });
}

// A step of 1e-5 leaves about 1e-10 of a third derivative of order one; FouT's terms of 1 / (dt 1e-4) leave rounding of
// 1e-16 * 1e5 / 1e-5.
TEST(S4Kernel, ReferenceGradientsAreDifferencesOfTheLoss) {
  Random random(5);
  for (const Hippo kind : kKinds) {
    for (const std::int64_t length : {9, 12}) {
      Case c(kind, 4, 6, 2, 2, random);
      c.parameters.rate = 2.0;
      c.log_decay.fill_uniform(random, -2.0, -0.5);
      c.log_dt.fill_uniform(random, -3.0, -1.0);
      Doubles d(c), gradient(c);
      gradient.clear();
      WideMatrix up(8, length), kernel(8, length);
      up.fill([&] { return random.normal(); });
      reference::s4_kernel_backward(d.parameters, up.in(), gradient.gradients());
      const auto loss = [&] {
        reference::s4_kernel(d.parameters, kernel.out());
        return tests::dot(up, kernel);
      };
      tests::expect_gradient_is_difference(d.log_dt, gradient.log_dt, 1e-5, 1e-7, loss);
      tests::expect_gradient_is_difference(d.log_decay, gradient.log_decay, 1e-5, 1e-7, loss);
      tests::expect_gradient_is_difference(d.frequency, gradient.frequency, 1e-5, 1e-7, loss);
      tests::expect_gradient_is_difference(d.p, gradient.p, 1e-5, 1e-7, loss);
      tests::expect_gradient_is_difference(d.b, gradient.b, 1e-5, 1e-7, loss);
      tests::expect_gradient_is_difference(d.c, gradient.c, 1e-5, 1e-7, loss);
    }
  }
}

TEST(S4Kernel, GradientsMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(6);
    for (const Hippo kind : kKinds) {
      for (const std::int64_t length : {1, 2, 15, 16, 17, 60}) {
        Case c(kind, 4, 10, 2, length % 2 + 1, random);
        if (length == 16) c.parameters.rank = 0;
        const S4Kernel& p = c.parameters;
        Doubles d(c), expected(c);
        expected.clear();
        Matrix up(p.copies * 4, length, 1, 1);
        up.fill_normal(random);
        const WideMatrix wide(up);
        reference::s4_kernel_backward(d.parameters, wide.in(), expected.gradients());
        Case actual = c;
        for (Matrix* m : {&actual.log_dt, &actual.log_decay, &actual.frequency, &actual.p, &actual.b, &actual.c}) {
          m->fill([] { return 0.0; });
        }
        s4_kernel_backward(pool, p, up.in(),
                           {.log_dt = actual.log_dt.data(),
                            .log_decay = actual.log_decay.data(),
                            .frequency = actual.frequency.data(),
                            .p = actual.p.data(),
                            .b = actual.b.data(),
                            .c = actual.c.data()});
        // Double inside: rounded once, and cancelling as the kernel does; terms of FouT's up to 1e5 cancel to nothing
        // in log dt at length 1, whose only node does not depend on dt.
        expect_gradient_near(actual.log_dt, expected.log_dt, 1e-9, 1e-16 * 1e5, "log_dt");
        expect_gradient_near(actual.log_decay, expected.log_decay, 1e-9, 1e-16 * 1e5, "log_decay");
        expect_gradient_near(actual.frequency, expected.frequency, 1e-9, 1e-16 * 1e5, "frequency");
        expect_gradient_near(actual.p, expected.p, 1e-9, 1e-16 * 1e5, "p");
        expect_gradient_near(actual.b, expected.b, 1e-9, 1e-16 * 1e5, "b");
        expect_gradient_near(actual.c, expected.c, 1e-9, 1e-16 * 1e5, "c");
      }
    }
  });
}

TEST(S4Kernel, ThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(7);
    const Case c(Hippo::kLegS, 9, 12, 3, 2, random);
    Matrix up(18, 50), first, first_gradient;
    up.fill_normal(random);
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Matrix kernel(18, 50), gradient(3, 12);
      s4_kernel(pool, c.parameters, kernel.out());
      s4_kernel_backward(pool, c.parameters, up.in(),
                         {.log_dt = nullptr,
                          .log_decay = nullptr,
                          .frequency = nullptr,
                          .p = gradient.data(),
                          .b = nullptr,
                          .c = nullptr});
      if (threads == 1) first = kernel, first_gradient = gradient;
      tests::expect_same_bits(kernel, first);
      tests::expect_same_bits(gradient, first_gradient);
    }
  });
}

}  // namespace
}  // namespace krait::kernels
