#include "krait/kernels/activation.h"

#include <array>

#include "krait/kernels/reference/elementwise.h"
#include "krait/kernels/reference/rwkv7.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

// silu: e^-x within 4 roundings (2 ulp), the sum and the quotient one each; the denominator damps the first.
constexpr double kSiluRoundings = 6.0;
// softplus: e^-|x| 4, the quotient s and its denominator 2, the polynomial 3, the two sums 2.
constexpr double kSoftplusRoundings = 11.0;

TEST(Activation, SiluMatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t columns : tests::kLengths) {
      Matrix x(5, columns, 3, 1), y(5, columns, 2, 1);
      x.fill_normal(random, 8.0);
      silu(pool, x.in(), y.out());
      Expected expected(5, columns);
      for (std::int64_t r = 0; r < 5; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) expected.out().row(r)[c] = reference::silu(x.at(r, c));
      }
      tests::expect_near(y, expected,
                         [&](auto r, auto c) { return kSiluRoundings * kRounding * std::fabs(expected.at(r, c)); });
      y.check_gaps();
      silu(pool, x.in(), x.out());
      tests::expect_same_bits(x, y);
    }
  });
}

TEST(Activation, GatesProductsAndGeluMatchTheirFormulas) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(8);
    for (const std::int64_t columns : tests::kLengths) {
      Matrix x(5, columns, 3, 1), gate(5, columns, 1), y(5, columns, 2, 1);
      x.fill_normal(random, 2.0);
      gate.fill_normal(random, 3.0);
      const auto gelu_of = [](double v) { return 0.5 * v * std::erfc(-v / std::sqrt(2.0)); };
      // `roundings` of the result, and `least` of x and gate where a result is a difference of close numbers.
      const auto expect = [&](auto&& formula, double roundings, double least = 0.0) {
        Expected expected(5, columns);
        for (std::int64_t r = 0; r < 5; ++r) {
          for (std::int64_t c = 0; c < columns; ++c) {
            expected.out().row(r)[c] = formula(double{x.at(r, c)}, double{gate.at(r, c)});
          }
        }
        tests::expect_near(y, expected, [&](auto r, auto c) {
          return kRounding * (roundings * std::fabs(expected.at(r, c)) +
                              least * std::fabs(x.at(r, c)) * (1.0 + std::fabs(gate.at(r, c))));
        });
        y.check_gaps();
      };
      sigmoid_gate(pool, x.in(), gate.in(), y.out());
      expect([](double v, double g) { return v * reference::sigmoid(g); }, 7.0);
      // The argument of erfc is rounded twice, which its slope of at most 2 / sqrt(pi) passes on.
      gelu(pool, x.in(), y.out());
      expect([&](double v, double) { return gelu_of(v); }, 4.0, 4.0);
      gelu_gate(pool, x.in(), gate.in(), y.out());
      expect([&](double v, double g) { return v * gelu_of(g); }, 5.0, 6.0);
      for (std::int64_t r = 0; r < 5; ++r) std::copy_n(gate.in().row(r), columns, y.out().row(r));
      multiply(pool, x.in(), y.out());
      expect([](double v, double g) { return v * g; }, 1.0);
      for (std::int64_t r = 0; r < 5; ++r) std::copy_n(x.in().row(r), columns, y.out().row(r));
      scale(pool, 0.3F, y.out());
      expect([](double v, double) { return v * double{0.3F}; }, 1.0);
    }
  });
}

TEST(Activation, SigmoidTanhAndSquaredReluMatchTheirFormulas) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(7);
    for (const std::int64_t columns : tests::kLengths) {
      Matrix x(5, columns, 3, 1), y(5, columns, 2, 1);
      x.fill_normal(random, 4.0);
      Expected expected(5, columns);
      const auto expect = [&](auto&& formula) {
        for (std::int64_t r = 0; r < 5; ++r) {
          for (std::int64_t c = 0; c < columns; ++c) expected.out().row(r)[c] = formula(double{x.at(r, c)});
        }
      };
      sigmoid(pool, x.in(), y.out());
      expect(reference::sigmoid);
      // e^-x within 4 roundings, the sum and the quotient one each.
      tests::expect_near(y, expected, [&](auto r, auto c) { return 6.0 * kRounding * expected.at(r, c); });
      hyperbolic_tangent(pool, x.in(), y.out());
      expect([](double v) { return std::tanh(v); });
      // u within 2 ulp of at most 1: (1 - u) / (1 + u) moves by at most 2 / (1 + u)^2 of that and three roundings.
      tests::expect_near(y, expected, [&](auto r, auto c) {
        const double u = std::exp(-2.0 * std::fabs(x.at(r, c)));
        return kRounding * (8.0 * u / ((1.0 + u) * (1.0 + u)) + 3.0 * std::fabs(expected.at(r, c)));
      });
      relu(pool, x.in(), y.out());
      expect([](double v) { return std::max(v, 0.0); });
      tests::expect_near(y, expected, [](auto, auto) { return 0.0; });
      squared_relu(pool, x.in(), y.out());
      expect([](double v) { return v > 0.0 ? v * v : 0.0; });
      tests::expect_near(y, expected, [&](auto r, auto c) { return kRounding * expected.at(r, c); });
      y.check_gaps();
    }
  });
}

TEST(Activation, SiluGateMultiplies) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t columns : tests::kLengths) {
      Matrix x(3, columns, 1, 1), gate(3, columns), y(3, columns);
      x.fill_normal(random);
      gate.fill_normal(random, 4.0);
      silu_gate(pool, x.in(), gate.in(), y.out());
      Expected expected(3, columns);
      for (std::int64_t r = 0; r < 3; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) {
          expected.out().row(r)[c] = x.at(r, c) * reference::silu(gate.at(r, c));
        }
      }
      tests::expect_near(
          y, expected, [&](auto r, auto c) { return (kSiluRoundings + 1) * kRounding * std::fabs(expected.at(r, c)); });
    }
  });
}

TEST(Activation, SoftplusKeepsRelativeAccuracyWhereTheResultIsTiny) {
  ThreadPool pool(1);
  on_every_target([&] {
    Matrix x(1, 4001), y(1, 4001);
    for (std::int64_t i = 0; i <= 4000; ++i) x.at(0, i) = static_cast<float>(-80.0 + 0.03 * static_cast<double>(i));
    softplus(pool, x.in(), nullptr, 0.0F, 1e30F, y.out());
    Expected expected(1, 4001);
    for (std::int64_t i = 0; i <= 4000; ++i) expected.out().row(0)[i] = reference::softplus(x.at(0, i));
    tests::expect_near(y, expected, [&](auto, auto i) { return kSoftplusRoundings * kRounding * expected.at(0, i); });
    for (std::int64_t i = 0; i <= 4000; ++i) ASSERT_GT(y.at(0, i), 0.0F) << x.at(0, i);
  });
}

TEST(Activation, SoftplusClampsAfterwardsAndAddsBias) {
  ThreadPool pool(1);
  on_every_target([&] {
    Matrix x(2, 19), bias(1, 19), y(2, 19);
    Random random(3);
    x.fill_normal(random, 3.0);
    bias.fill_normal(random);
    softplus(pool, x.in(), bias.data(), 0.5F, 1.5F, y.out());
    for (std::int64_t r = 0; r < 2; ++r) {
      for (std::int64_t c = 0; c < 19; ++c) {
        const double sum = x.at(r, c) + bias.at(0, c);  // rounded as the kernel rounds it
        const double expected = std::min(1.5, std::max(0.5, reference::softplus(static_cast<float>(sum))));
        EXPECT_NEAR(y.at(r, c), expected, kSoftplusRoundings * kRounding * expected);
      }
    }
  });
}

TEST(Activation, ExtremesGiveNoNan) {
  ThreadPool pool(1);
  on_every_target([&] {
    Matrix x(1, 6), y(1, 6);
    const float values[] = {-1e38F, -200.0F, -0.0F, 0.0F, 200.0F, 1e38F};
    for (std::int64_t i = 0; i < 6; ++i) x.at(0, i) = values[i];
    silu(pool, x.in(), y.out());
    EXPECT_EQ(y.at(0, 0), 0.0F);
    EXPECT_EQ(y.at(0, 1), 0.0F);
    EXPECT_EQ(y.at(0, 4), 200.0F);
    EXPECT_EQ(y.at(0, 5), 1e38F);
    softplus(pool, x.in(), nullptr, 0.0F, 3e38F, y.out());
    EXPECT_EQ(y.at(0, 0), 0.0F);
    EXPECT_FLOAT_EQ(y.at(0, 2), 0.693147181F);
    EXPECT_EQ(y.at(0, 5), 1e38F);
  });
}

TEST(Activation, NanStaysNanThroughClampsAndPartVectors) {
  ThreadPool pool(1);
  on_every_target([&] {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (std::int64_t columns = 2; columns <= 17; ++columns) {
      Matrix x(1, columns), y(1, columns);
      x.at(0, columns - 1) = nan;
      softplus(pool, x.in(), nullptr, 0.5F, 1.5F, y.out());
      EXPECT_TRUE(std::isnan(y.at(0, columns - 1)));
      EXPECT_FALSE(std::isnan(y.at(0, 0)));
      silu(pool, x.in(), y.out());
      EXPECT_TRUE(std::isnan(y.at(0, columns - 1)));
    }
  });
}

TEST(Activation, AddAccumulates) {
  ThreadPool pool(3);
  on_every_target([&] {
    Random random(4);
    for (const std::int64_t columns : tests::kLengths) {
      Matrix x(70, columns, 1), y(70, columns);
      x.fill_normal(random);
      y.fill_normal(random);
      const Matrix before = y;
      add(pool, x.in(), y.out());
      for (std::int64_t r = 0; r < 70; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) ASSERT_EQ(y.at(r, c), before.at(r, c) + x.at(r, c));
      }
    }
  });
}

TEST(Activation, HeadsAreRepeatedOneAfterTheOther) {
  ThreadPool pool(2);
  Random random(5);
  for (const auto& [heads, width, repeats] : {std::array<std::int64_t, 3>{1, 1, 4}, {3, 5, 2}, {2, 16, 1}, {4, 7, 3}}) {
    Matrix x(40, heads * width, 2, 1), y(40, heads * width * repeats, 1);
    x.fill_normal(random);
    repeat_heads(pool, x.in(), width, y.out());
    y.check_gaps();
    for (std::int64_t r = 0; r < 40; ++r) {
      for (std::int64_t c = 0; c < y.columns(); ++c) {
        ASSERT_EQ(y.at(r, c), x.at(r, c / width / repeats * width + c % width)) << "column " << c;
      }
    }
  }
}

}  // namespace
}  // namespace krait::kernels
