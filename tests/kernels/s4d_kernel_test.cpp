#include "krait/kernels/s4d_kernel.h"

#include <cmath>
#include <numbers>

#include "krait/kernels/long_convolution.h"
#include "krait/kernels/reference/s4d_kernel.h"
#include "tests/kernels/double_matrix.h"

namespace krait::kernels {
namespace {

using tests::expect_gradient_near;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

// S4D-Lin: A[n] = -1/2 + i pi n, dt between 1e-3 and 1e-1.
struct Case {
  Matrix log_dt, log_decay, frequency, b, c;
  S4dKernel parameters;

  Case(std::int64_t channels, std::int64_t states, std::int64_t sets, std::int64_t copies, Discretisation method,
       bool dt_per_state, Random& random)
      : log_dt(channels, dt_per_state ? states : 1),
        log_decay(sets, states),
        frequency(sets, states),
        b(sets, 2 * states),
        c(copies * channels, 2 * states) {
    log_dt.fill_uniform(random, std::log(1e-3), std::log(1e-1));
    log_decay.fill([&] { return std::log(0.5) + 0.1 * random.normal(); });
    for (std::int64_t s = 0; s < sets; ++s) {
      for (std::int64_t n = 0; n < states; ++n) {
        frequency.at(s, n) = static_cast<float>(std::numbers::pi * static_cast<double>(n) + 0.1 * random.normal());
      }
    }
    b.fill_normal(random);
    c.fill_normal(random);
    parameters = {.channels = channels,
                  .states = states,
                  .sets = sets,
                  .copies = copies,
                  .method = method,
                  .rate = 1.0,
                  .dt_per_state = dt_per_state,
                  .log_dt = log_dt.data(),
                  .log_decay = log_decay.data(),
                  .frequency = frequency.data(),
                  .b = b.data(),
                  .c = c.data()};
  }
};

struct Doubles {
  WideMatrix log_dt, log_decay, frequency, b, c;
  S4dKernelOf<double> parameters;

  explicit Doubles(const Case& from)
      : log_dt(from.log_dt), log_decay(from.log_decay), frequency(from.frequency), b(from.b), c(from.c) {
    const S4dKernel& p = from.parameters;
    parameters = {.channels = p.channels,
                  .states = p.states,
                  .sets = p.sets,
                  .copies = p.copies,
                  .method = p.method,
                  .rate = p.rate,
                  .dt_per_state = p.dt_per_state,
                  .log_dt = log_dt.data(),
                  .log_decay = log_decay.data(),
                  .frequency = frequency.data(),
                  .b = p.b == nullptr ? nullptr : b.data(),
                  .c = c.data()};
  }
  S4dKernelGradientsOf<double> gradients() {
    return {.log_dt = log_dt.data(),
            .log_decay = log_decay.data(),
            .frequency = frequency.data(),
            .b = b.data(),
            .c = c.data()};
  }
  void clear() {
    for (WideMatrix* m : {&log_dt, &log_decay, &frequency, &b, &c}) m->clear();
  }
};

// The sum of absolute terms of row `row` at l: 2 sum_n |C B weight| |z|^l.
double magnitude(const Doubles& d, std::int64_t row, std::int64_t l) {
  const S4dKernelOf<double>& p = d.parameters;
  const std::int64_t h = row % p.channels, set = h % p.sets;
  double sum = 0.0;
  for (std::int64_t n = 0; n < p.states; ++n) {
    const double dt = p.rate * std::exp(p.log_dt[p.dt_per_state ? h * p.states + n : h]);
    const std::complex<double> a(-std::exp(p.log_decay[set * p.states + n]), p.frequency[set * p.states + n]);
    const DiscreteState discrete = discretise(p.method, dt, a);
    const double b = p.b == nullptr ? 1.0 : std::hypot(d.b.at(set, 2 * n), d.b.at(set, 2 * n + 1));
    const double c = std::hypot(d.c.at(row, 2 * n), d.c.at(row, 2 * n + 1));
    sum += 2.0 * b * c * std::abs(discrete.weight) * std::pow(std::abs(discrete.z), static_cast<double>(l));
  }
  return sum;
}

// A term is the product of two powers, both rounded once, summed with 2 M others: (2 M + 2) roundings, and real and
// imaginary parts together are at most sqrt(2) of the absolute value. Powers in double add l 1e-15 at most.
double kernel_bound(const Doubles& d, std::int64_t row, std::int64_t l) {
  const double roundings = 2.0 * static_cast<double>(d.parameters.states) + 4.0;
  return std::numbers::sqrt2 * (roundings * kRounding + static_cast<double>(l) * 1e-15) * magnitude(d, row, l);
}

void expect_kernel_matches(ThreadPool& pool, const Case& c, std::int64_t length) {
  const S4dKernel& p = c.parameters;
  const Doubles d(c);
  WideMatrix expected(p.copies * p.channels, length);
  reference::s4d_kernel(d.parameters, expected.out());
  Matrix kernel(p.copies * p.channels, length, 3, 1);
  s4d_kernel(pool, p, kernel.out());
  kernel.check_gaps();
  for (std::int64_t row = 0; row < kernel.rows(); ++row) {
    for (std::int64_t l = 0; l < length; ++l) {
      ASSERT_NEAR(kernel.at(row, l), expected.at(row, l), kernel_bound(d, row, l) + tests::kTiny)
          << "row " << row << ", l " << l;
    }
  }
}

constexpr Discretisation kMethods[] = {Discretisation::kZeroOrderHold, Discretisation::kBilinear};

TEST(S4dKernel, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const Discretisation method : kMethods) {
      for (const std::int64_t length : {1, 2, 15, 16, 17, 63, 64, 65, 100, 1000}) {
        for (const std::int64_t states : {1, 2, 7, 8, 32}) {
          SCOPED_TRACE(::testing::Message() << length << " long, " << states << " states");
          expect_kernel_matches(pool, Case(3, states, 1, 1, method, false, random), length);
        }
      }
    }
  });
}

TEST(S4dKernel, SetsCopiesAndTheirOwnStepsMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const Discretisation method : kMethods) {
      Case c(6, 5, 3, 2, method, true, random);
      c.parameters.rate = 2.0;
      expect_kernel_matches(pool, c, 77);
      c.parameters.b = nullptr;
      expect_kernel_matches(pool, c, 77);
    }
  });
}

// l |Im dt A| goes to 16383 * 0.1 * 1303, two million turns' radians, where an angle in f32 would be noise.
TEST(S4dKernel, LargeAnglesLoseNothing) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(3);
    Case c(2, 8, 1, 1, Discretisation::kZeroOrderHold, false, random);
    c.log_dt.fill([] { return std::log(0.1); });
    c.log_decay.fill([] { return std::log(1e-3); });
    c.frequency.fill([&] { return 1303.27 * random.uniform(); });
    expect_kernel_matches(pool, c, 16384);
  });
}

// The oracle's kernel, applied as a convolution, is the model stepped; exactly so but for rounding in double.
TEST(S4dKernel, OracleIsTheModelStepByStep) {
  Random random(4);
  for (const Discretisation method : kMethods) {
    Case c(4, 8, 2, 1, method, true, random);
    const Doubles d(c);
    const std::int64_t length = 128;
    WideMatrix kernel(4, length), x(length, 4), y(length, 4);
    x.fill([&] { return random.normal(); });
    reference::s4d_kernel(d.parameters, kernel.out());
    const SequenceRows sequence{.first_row = 0, .rows = length, .state = nullptr};
    reference::s4d_steps(d.parameters, x.in(), {&sequence, 1}, y.out());
    for (std::int64_t h = 0; h < 4; ++h) {
      for (std::int64_t t = 0; t < length; ++t) {
        double sum = 0.0, terms = 0.0;
        for (std::int64_t j = 0; j <= t; ++j) {
          sum += kernel.at(h, j) * x.at(t - j, h);
          terms += magnitude(d, h, j) * std::fabs(x.at(t - j, h));
        }
        ASSERT_NEAR(y.at(t, h), sum, 1e-13 * terms) << "row " << t << ", channel " << h;
      }
    }
  }
}

// Kernel and convolution in f32 against the steps in double: 1e-6 of the largest output, which is what PyTorch's own
// S4D shows at this length.
TEST(S4dKernel, ConvolutionAgreesWithSteps) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(5);
    for (const Discretisation method : kMethods) {
      const Case c(16, 32, 1, 1, method, false, random);
      const std::int64_t length = 128;
      Matrix kernel(16, length), x(length, 16), y(length, 16);
      x.fill_normal(random);
      s4d_kernel(pool, c.parameters, kernel.out());
      const SequenceRows sequence{.first_row = 0, .rows = length, .state = nullptr};
      long_convolution(pool, {.kernel = kernel.in(), .ahead = {}, .first_ahead = 0, .d = nullptr}, x.in(),
                       {&sequence, 1}, y.out());
      const Doubles d(c);
      const WideMatrix wide(x);
      WideMatrix expected(length, 16);
      reference::s4d_steps(d.parameters, wide.in(), {&sequence, 1}, expected.out());
      double largest = 0.0, worst = 0.0;
      for (std::int64_t t = 0; t < length; ++t) {
        for (std::int64_t h = 0; h < 16; ++h) {
          largest = std::max(largest, std::fabs(expected.at(t, h)));
          worst = std::max(worst, std::fabs(expected.at(t, h) - y.at(t, h)));
        }
      }
      EXPECT_LE(worst, 1e-6 * largest);
    }
  });
}

// A step of 1e-5 leaves h^2 / 6 of the third derivative, 1e-10 of terms of order one (scaled by l |A dt| <= 3 cubed),
// and 1e-11 of rounding.
TEST(S4dKernel, ReferenceGradientsAreDifferencesOfTheLoss) {
  Random random(6);
  for (const Discretisation method : kMethods) {
    for (const bool dt_per_state : {false, true}) {
      Case c(4, 3, 2, 2, method, dt_per_state, random);
      c.parameters.rate = 1.5;
      Doubles d(c), gradient(c);
      gradient.clear();
      const std::int64_t length = 11;
      WideMatrix up(8, length), kernel(8, length);
      up.fill([&] { return random.normal(); });
      reference::s4d_kernel_backward(d.parameters, up.in(), gradient.gradients());
      const auto loss = [&] {
        reference::s4d_kernel(d.parameters, kernel.out());
        return tests::dot(up, kernel);
      };
      tests::expect_gradient_is_difference(d.log_dt, gradient.log_dt, 1e-5, 1e-8, loss);
      tests::expect_gradient_is_difference(d.log_decay, gradient.log_decay, 1e-5, 1e-8, loss);
      tests::expect_gradient_is_difference(d.frequency, gradient.frequency, 1e-5, 1e-8, loss);
      tests::expect_gradient_is_difference(d.b, gradient.b, 1e-5, 1e-8, loss);
      tests::expect_gradient_is_difference(d.c, gradient.c, 1e-5, 1e-8, loss);
    }
  }
}

// The derivative of phi is a series near 0 and a quotient away from it: both sides of the border, and s = 0.
TEST(S4dKernel, DiscretisationIsSmooth) {
  for (const Discretisation method : kMethods) {
    for (const std::complex<double> s : {std::complex<double>(0.0, 0.0),
                                         {-1e-9, 1e-9},
                                         {-0.3, 0.3},
                                         {-0.499, 0.0},
                                         {-0.501, 0.0},
                                         {-0.01, 3.0},
                                         {-2.0, -40.0}}) {
      const double step = 1e-5;
      const DiscreteState at = discretise(method, 1.0, s), above = discretise(method, 1.0, s + step);
      const DiscreteState below = discretise(method, 1.0, s - step);
      EXPECT_LE(std::abs((above.z - below.z) / (2.0 * step) - at.z_by_s), 1e-9) << s;
      EXPECT_LE(std::abs((above.weight - below.weight) / (2.0 * step) - at.weight_by_s), 1e-9) << s;
    }
  }
  // dt (e^s - 1) / s at s = -1e-9: 1 - 5e-10, which a plain difference would have to seven digits.
  const DiscreteState tiny = discretise(Discretisation::kZeroOrderHold, 1.0, {-1e-9, 0.0});
  EXPECT_NEAR(tiny.weight.real(), 1.0 - 5e-10, 1e-15);
}

// A moment is wrong by at most (J + 3) roundings of sum_l |dK| |z|^l, J <= 64 here; all after it is double. That sum is
// about sqrt(L) times the moment itself, as the L values are independent and their signs cancel.
void expect_gradients_match(ThreadPool& pool, const Case& c, std::int64_t length, Random& random) {
  const S4dKernel& p = c.parameters;
  Doubles d(c), expected(c);
  expected.clear();
  Matrix up(p.copies * p.channels, length, 2, 1);
  up.fill_normal(random);
  const WideMatrix wide(up);
  reference::s4d_kernel_backward(d.parameters, wide.in(), expected.gradients());
  Case actual = c;
  for (Matrix* m : {&actual.log_dt, &actual.log_decay, &actual.frequency, &actual.b, &actual.c}) {
    m->fill([] { return 0.0; });
  }
  s4d_kernel_backward(pool, p, up.in(),
                      {.log_dt = actual.log_dt.data(),
                       .log_decay = actual.log_decay.data(),
                       .frequency = actual.frequency.data(),
                       .b = actual.b.data(),
                       .c = actual.c.data()});
  const double share = 67.0 * kRounding * std::sqrt(static_cast<double>(length));
  expect_gradient_near(actual.log_dt, expected.log_dt, share, tests::kTiny, "log_dt");
  expect_gradient_near(actual.log_decay, expected.log_decay, share, tests::kTiny, "log_decay");
  expect_gradient_near(actual.frequency, expected.frequency, share, tests::kTiny, "frequency");
  expect_gradient_near(actual.b, expected.b, share, tests::kTiny, "b");
  expect_gradient_near(actual.c, expected.c, share, tests::kTiny, "c");
}

TEST(S4dKernel, GradientsMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(7);
    for (const Discretisation method : kMethods) {
      for (const std::int64_t length : {1, 2, 16, 17, 64, 100, 1000}) {
        for (const std::int64_t states : {1, 5, 16}) {
          SCOPED_TRACE(::testing::Message() << length << " long, " << states << " states");
          expect_gradients_match(pool, Case(4, states, 2, 2, method, states == 5, random), length, random);
        }
      }
    }
  });
}

TEST(S4dKernel, ThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(8);
    const Case c(9, 6, 3, 2, Discretisation::kZeroOrderHold, false, random);
    Matrix up(18, 50), first, first_gradient;
    up.fill_normal(random);
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Matrix kernel(18, 50), frequency(3, 6);
      s4d_kernel(pool, c.parameters, kernel.out());
      s4d_kernel_backward(
          pool, c.parameters, up.in(),
          {.log_dt = nullptr, .log_decay = nullptr, .frequency = frequency.data(), .b = nullptr, .c = nullptr});
      if (threads == 1) first = kernel, first_gradient = frequency;
      tests::expect_same_bits(kernel, first);
      tests::expect_same_bits(frequency, first_gradient);
    }
  });
}

}  // namespace
}  // namespace krait::kernels
