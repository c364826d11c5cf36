// The elementwise kernels of RWKV-7: gates, value residual, bonus, and the token shift.
#include "krait/kernels/rwkv7_gates.h"

#include "krait/kernels/reference/rwkv7.h"
#include "krait/kernels/token_shift.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

// Relative, of sigmoid(u + v): the argument's rounding moves it by at most |u + v| of one, e^-x has 4 roundings (2
// ulp), sum and quotient one each.
double sigmoid_error(double argument) { return (std::fabs(argument) + 7.0) * kRounding; }

TEST(Rwkv7Gates, MatchOracleAtEveryHeadWidth) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t width : tests::kLengths) {
      const std::int64_t columns = 3 * width;
      Matrix w(5, columns, 3, 1), a(5, columns, 1), k(5, columns, 2, 1), kappa(5, columns, 4, 1);
      Matrix w0(1, columns, 0, 1), a0(1, columns), k_k(1, columns, 0, 1), k_a(1, columns);
      for (Matrix* m : {&w, &a, &k, &w0, &a0, &k_k, &k_a}) m->fill_normal(random, 2.0);
      const Rwkv7Gates gates{.heads = 3, .w0 = w0.data(), .a0 = a0.data(), .k_k = k_k.data(), .k_a = k_a.data()};
      Expected decay(5, columns), replace(5, columns), key(5, columns), removal(5, columns);
      reference::rwkv7_gates(gates, w.in(), a.in(), k.in(), {decay.out(), replace.out(), key.out(), removal.out()});
      const Matrix raw_w = w, raw_a = a, raw_k = k;
      rwkv7_gates(pool, gates, w.out(), a.out(), k.out(), kappa.out());
      const auto rate_error = [&](auto r, auto c) { return sigmoid_error(double{a0.at(0, c)} + raw_a.at(r, c)); };
      // The sum of squares has at most P / 4 additions and a handful on its longest path; root and quotient.
      const double removal_error = ((static_cast<double>(width) / 4.0 + 10.0) / 2.0 + 5.0) * kRounding;
      tests::expect_near(w, decay, [&](auto r, auto c) {
        const double error = sigmoid_error(double{w0.at(0, c)} + raw_w.at(r, c));
        return (0.61 * (error + 2.0 * kRounding) + 2.0 * kRounding) * decay.at(r, c);
      });
      tests::expect_near(kappa, removal, [&](auto r, auto c) { return removal_error * std::fabs(removal.at(r, c)); });
      tests::expect_near(a, replace, [&](auto r, auto c) {
        return (removal_error + rate_error(r, c) + kRounding) * std::fabs(replace.at(r, c));
      });
      tests::expect_near(k, key, [&](auto r, auto c) {
        const double size = std::fabs(k_a.at(0, c));  // rate and rate - 1 are at most 1
        return std::fabs(raw_k.at(r, c)) * (size * (rate_error(r, c) + kRounding) + 2.0 * kRounding * (1.0 + size));
      });
      w.check_gaps();
      kappa.check_gaps();
    }
  });
}

TEST(Rwkv7Gates, AKeyOfZerosRemovesNothing) {
  ThreadPool pool(1);
  on_every_target([&] {
    Matrix w(1, 20), a(1, 20), k(1, 20), kappa(1, 20), ones(1, 20);
    ones.fill([] { return 1.0; });
    rwkv7_gates(pool, {.heads = 2, .w0 = ones.data(), .a0 = ones.data(), .k_k = ones.data(), .k_a = ones.data()},
                w.out(), a.out(), k.out(), kappa.out());
    for (std::int64_t c = 0; c < 20; ++c) {
      EXPECT_EQ(kappa.at(0, c), 0.0F);
      EXPECT_EQ(a.at(0, c), 0.0F);
    }
  });
}

TEST(Rwkv7Gates, ValueResidualMixesTheFirstLayersValue) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t columns : tests::kLengths) {
      Matrix v0(1, columns, 0, 1), mix(4, columns, 1), first(4, columns, 2, 1), v(4, columns, 3);
      for (Matrix* m : {&v0, &mix, &first, &v}) m->fill_normal(random);
      const Matrix own = v;
      rwkv7_value_residual(pool, v0.data(), mix.in(), first.in(), v.out());
      for (std::int64_t r = 0; r < 4; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) {
          const double argument = double{v0.at(0, c)} + mix.at(r, c);
          const double difference = double{first.at(r, c)} - own.at(r, c);
          const double expected = own.at(r, c) + difference * reference::sigmoid(argument);
          ASSERT_NEAR(v.at(r, c), expected,
                      std::fabs(difference) * (sigmoid_error(argument) + 2.0 * kRounding) +
                          2.0 * kRounding * std::fabs(expected) + kRounding * std::fabs(own.at(r, c)));
        }
      }
      v.check_gaps();
    }
  });
}

TEST(Rwkv7Gates, BonusAndGateMatchTheirFormula) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(3);
    for (const std::int64_t width : tests::kLengths) {
      const std::int64_t columns = 2 * width;
      Matrix r_k(1, columns, 0, 1), r(4, columns, 1), k(4, columns, 2, 1), v(4, columns), g(4, columns),
          y(4, columns, 3);
      for (Matrix* m : {&r_k, &r, &k, &v, &g, &y}) m->fill_normal(random);
      const Matrix before = y;
      rwkv7_bonus_gate(pool, 2, r_k.data(), r.in(), k.in(), v.in(), g.in(), y.out());
      for (std::int64_t t = 0; t < 4; ++t) {
        for (std::int64_t c = 0; c < columns; ++c) {
          double sum = 0.0, size = 0.0;
          for (std::int64_t i = c / width * width; i < (c / width + 1) * width; ++i) {
            const double term = double{r.at(t, i)} * k.at(t, i) * r_k.at(0, i);
            sum += term;
            size += std::fabs(term);
          }
          const double expected = (before.at(t, c) + sum * v.at(t, c)) * g.at(t, c);
          const double terms = std::fabs(before.at(t, c)) + size * std::fabs(v.at(t, c));
          const double roundings = static_cast<double>(width) / 4.0 + 12.0;
          ASSERT_NEAR(y.at(t, c), expected, roundings * kRounding * terms * std::fabs(g.at(t, c)) + tests::kTiny);
        }
      }
      y.check_gaps();
    }
  });
}

TEST(TokenShift, BlendsWithTheRowBeforeAndKeepsTheLast) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(4);
    for (const std::int64_t columns : tests::kLengths) {
      for (const std::int64_t rows : {0, 1, 2, 9}) {
        Matrix x(rows, columns, 1, 1), mix(2, columns), state(1, columns, 0, 1), y(rows, columns, 2, 1),
            z(rows, columns);
        x.fill_normal(random);
        mix.fill_uniform(random, 0.0, 1.0);
        state.fill_normal(random);
        const Matrix start = state;
        const SequenceRows sequence{.first_row = 0, .rows = rows, .state = state.bytes()};
        const TokenShift shifts[] = {{mix.data(), y.out()}, {mix.data() + columns, z.out()}};
        token_shift(pool, x.in(), {&sequence, 1}, shifts);
        for (std::int64_t t = 0; t < rows; ++t) {
          for (std::int64_t c = 0; c < columns; ++c) {
            const double before = t == 0 ? start.at(0, c) : x.at(t - 1, c);
            const double difference = before - x.at(t, c);
            for (const auto& [out, j] : {std::pair(&y, 0), std::pair(&z, 1)}) {
              const double blend = difference * mix.at(j, c);
              const double expected = x.at(t, c) + blend;
              // The difference, the product where it is rounded, and the sum.
              ASSERT_NEAR(out->at(t, c), expected,
                          kRounding * (2.0 * std::fabs(blend) + 1.01 * std::fabs(expected)) + tests::kTiny);
            }
          }
        }
        const float* kept = rows == 0 ? start.data() : &x.at(rows - 1, 0);
        for (std::int64_t c = 0; c < columns; ++c) ASSERT_EQ(state.at(0, c), kept[c]);
        y.check_gaps();
      }
    }
  });
}

TEST(TokenShift, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(5);
    Matrix x(60, 37), mix(1, 37), state(1, 37);
    x.fill_normal(random);
    mix.fill_uniform(random, 0.0, 1.0);
    state.fill_normal(random);
    tests::expect_sequences_and_threads_do_not_matter(
        37, state, [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) {
          const TokenShift shift{mix.data(), y.out()};
          token_shift(pool, x.in(), sequences, {&shift, 1});
        });
  });
}

}  // namespace
}  // namespace krait::kernels
