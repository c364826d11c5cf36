#include "krait/kernels/activation_backward.h"

#include <algorithm>
#include <functional>
#include <string>

#include "krait/kernels/activation.h"
#include "krait/kernels/reference/activation_backward.h"
#include "krait/kernels/reference/rwkv7.h"
#include "krait/kernels/rotary.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/layer_gradient_testing.h"
#include "tests/kernels/wide_matrix.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

// Slopes in f32: so many roundings of the slope itself, and of 1 + |x| where it is a sum that may cancel.
struct Function {
  std::string name;
  reference::ScalarFunction value, slope;
  double relative, absolute;
};
const std::vector<Function> kFunctions = {
    // The sigmoid rounds 6 times, 1 - s is off by as much of 1.
    {"silu", reference::silu, reference::silu_slope, 8.0, 8.0},
    // e^-|x| rounds 4 times, 1 + u 3 times, twice in the quotient.
    {"sigmoid", reference::sigmoid, reference::sigmoid_slope, 14.0, 0.0},
    {"tanh", reference::hyperbolic_tangent, reference::hyperbolic_tangent_slope, 14.0, 0.0},
    {"relu", reference::relu, reference::relu_slope, 0.0, 0.0},
    {"squared relu", reference::squared_relu, reference::squared_relu_slope, 0.0, 0.0},
    // The argument of erfc is rounded twice, which its slope passes on; x^2 / 2 rounds twice and phi falls by |x| of
    // that, phi x^3 being below 1.2.
    {"gelu", reference::gelu, reference::gelu_slope, 4.0, 6.0},
};

using Kernel = void (*)(ThreadPool&, RowsIn, RowsIn, RowsOut);
const std::vector<Kernel> kKernels = {silu_backward, sigmoid_backward,      hyperbolic_tangent_backward,
                                      relu_backward, squared_relu_backward, gelu_backward};

TEST(ActivationBackward, OracleIsTheDerivativeOfTheForward) {
  Random random(1);
  for (const Function& f : kFunctions) {
    SCOPED_TRACE(f.name);
    WideMatrix x(3, 20), dy(3, 20), dx(3, 20), dgate(3, 20), gate(3, 20);
    // Away from 0, where relu has no derivative.
    for (double& v : x.values()) v = (random.uniform() < 0.5 ? -1.0 : 1.0) * (0.01 + 3.0 * random.uniform());
    for (double& v : gate.values()) v = (random.uniform() < 0.5 ? -1.0 : 1.0) * (0.01 + 3.0 * random.uniform());
    dy.fill_normal(random);
    reference::apply_backward(f.slope, x.in(), dy.in(), dx.out());
    tests::expect_derivatives(x.values(), dx.values(), [&] {
      WideMatrix y(3, 20);
      reference::apply(f.value, x.in(), y.out());
      return tests::weighted_sum(dy, y);
    });
    reference::gate_by_backward(f.value, f.slope, x.in(), gate.in(), dy.in(), dx.out(), dgate.out());
    const auto gated = [&] {
      WideMatrix y(3, 20);
      reference::gate_by(f.value, x.in(), gate.in(), y.out());
      return tests::weighted_sum(dy, y);
    };
    tests::expect_derivatives(x.values(), dx.values(), gated);
    tests::expect_derivatives(gate.values(), dgate.values(), gated);
  }
  WideMatrix x(4, 9), bias(1, 9), dy(4, 9), dx(4, 9), dbias(1, 9);
  x.fill_normal(random, 3.0);
  bias.fill_normal(random);
  dy.fill_normal(random);
  x.at(0, 0) = 30.0;
  reference::softplus_backward(x.in(), bias.data(), 0.1, 2.5, dy.in(), dx.out(), dbias.data());
  const auto loss = [&] {
    WideMatrix y(4, 9);
    reference::softplus(x.in(), bias.data(), 0.1, 2.5, y.out());
    return tests::weighted_sum(dy, y);
  };
  tests::expect_derivatives(x.values(), dx.values(), loss);
  tests::expect_derivatives(bias.values(), dbias.values(), loss);
}

TEST(ActivationBackward, MatchesOracleAtEveryLengthAndInPlace) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (std::size_t k = 0; k < kKernels.size(); ++k) {
      const Function& f = kFunctions[k];
      SCOPED_TRACE(f.name);
      for (const std::int64_t columns : tests::kLengths) {
        Matrix x(5, columns, 3, 1), dy(5, columns, 1, 3), dx(5, columns, 2, 1);
        x.fill_normal(random, 4.0);
        dy.fill_normal(random);
        kKernels[k](pool, x.in(), dy.in(), dx.out());
        WideMatrix expected(5, columns);
        reference::apply_backward(f.slope, WideMatrix(x).in(), WideMatrix(dy).in(), expected.out());
        for (std::int64_t r = 0; r < 5; ++r) {
          for (std::int64_t c = 0; c < columns; ++c) {
            const double size = std::fabs(dy.at(r, c)) * (1.0 + std::fabs(x.at(r, c)));
            const double bound = (f.relative + 1.0) * std::fabs(expected.at(r, c)) + f.absolute * size;
            ASSERT_NEAR(dx.at(r, c), expected.at(r, c), kRounding * bound + tests::kTiny) << "x " << x.at(r, c);
          }
        }
        dx.check_gaps();
        Matrix in_x = x, in_dy = dy;
        kKernels[k](pool, in_x.in(), dy.in(), in_x.out());
        kKernels[k](pool, x.in(), in_dy.in(), in_dy.out());
        tests::expect_same_bits(in_x, dx);
        tests::expect_same_bits(in_dy, dx);
      }
    }
  });
}

TEST(ActivationBackward, SlopesOfSaturatedFunctionsStayFinite) {
  ThreadPool pool(1);
  on_every_target([&] {
    Matrix x(1, 20), dy(1, 20), dx(1, 20);
    dy.fill([] { return 1.0; });
    for (const double at : {-1e30, -200.0, 200.0, 1e30}) {
      x.fill([&] { return at; });
      for (std::size_t k = 0; k < kKernels.size(); ++k) {
        kKernels[k](pool, x.in(), dy.in(), dx.out());
        const double slope = kFunctions[k].slope(double{x.at(0, 0)});
        for (std::int64_t c = 0; c < 20; ++c) {
          ASSERT_NEAR(dx.at(0, c), slope, 2.0 * kRounding * std::fabs(slope) + tests::kTiny)
              << kFunctions[k].name << " at " << at;
        }
      }
    }
  });
}

TEST(GateBackward, MatchesOracleAtEveryLengthAndInPlace) {
  ThreadPool pool(2);
  using GateKernel = void (*)(ThreadPool&, RowsIn, RowsIn, RowsIn, const GateGradients&);
  struct Gate {
    GateKernel kernel;
    std::size_t function;
  };
  on_every_target([&] {
    Random random(3);
    for (const Gate& kernel :
         {Gate{silu_gate_backward, 0}, Gate{sigmoid_gate_backward, 1}, Gate{gelu_gate_backward, 5}}) {
      const Function& f = kFunctions[kernel.function];
      SCOPED_TRACE(f.name);
      for (const std::int64_t columns : tests::kLengths) {
        // Value and gate as halves of one matrix, their gradients too.
        Matrix both(4, 2 * columns, 1, 1), dy(4, columns, 2), gradients(4, 2 * columns, 3, 1);
        both.fill_normal(random, 3.0);
        dy.fill_normal(random);
        const auto value = both.in().slice_columns(0, columns), gate = both.in().slice_columns(columns, columns);
        kernel.kernel(
            pool, value, gate, dy.in(),
            {.x = gradients.out().slice_columns(0, columns), .gate = gradients.out().slice_columns(columns, columns)});
        const WideMatrix wide(both);
        WideMatrix expected(4, 2 * columns);
        reference::gate_by_backward(f.value, f.slope, wide.in().slice_columns(0, columns),
                                    wide.in().slice_columns(columns, columns), WideMatrix(dy).in(),
                                    expected.out().slice_columns(0, columns),
                                    expected.out().slice_columns(columns, columns));
        for (std::int64_t r = 0; r < 4; ++r) {
          for (std::int64_t c = 0; c < columns; ++c) {
            const double z = std::fabs(gate.row(r)[c]), d = std::fabs(dy.at(r, c)), v = std::fabs(value.row(r)[c]);
            // The function itself rounds some 8 times; gelu's argument moves it by some of |z|.
            ASSERT_NEAR(gradients.at(r, c), expected.at(r, c),
                        kRounding * (9.0 * std::fabs(expected.at(r, c)) + f.absolute * d * z) + tests::kTiny);
            ASSERT_NEAR(gradients.at(r, columns + c), expected.at(r, columns + c),
                        kRounding * ((f.relative + 3.0) * std::fabs(expected.at(r, columns + c)) +
                                     f.absolute * d * v * (1.0 + z)) +
                            tests::kTiny);
          }
        }
        gradients.check_gaps();
        Matrix places = both;
        kernel.kernel(
            pool, places.in().slice_columns(0, columns), places.in().slice_columns(columns, columns), dy.in(),
            {.x = places.out().slice_columns(0, columns), .gate = places.out().slice_columns(columns, columns)});
        tests::expect_same_bits(places, gradients);
      }
    }
  });
}

TEST(SoftplusBackward, MatchesOracleAndAddsTheBiasInOrder) {
  on_every_target([&] {
    Random random(4);
    for (const std::int64_t columns : {1, 7, 16, 33, 4100}) {
      const std::int64_t rows = columns > 1000 ? 37 : 9;
      Matrix x(rows, columns, 3, 1), bias(1, columns), dy(rows, columns, 1);
      x.fill_normal(random, 3.0);
      bias.fill_normal(random);
      dy.fill_normal(random);
      x.at(0, 0) = 25.0F;
      const float low = 0.125F, high = 3.0F;
      for (const bool biased : {true, false}) {
        const float* of = biased ? bias.data() : nullptr;
        const WideMatrix wide_bias(bias);
        WideMatrix expected(rows, columns), expected_bias(1, columns), size(1, columns);
        reference::softplus_backward(WideMatrix(x).in(), biased ? wide_bias.data() : nullptr, low, high,
                                     WideMatrix(dy).in(), expected.out(), expected_bias.data());
        Matrix first(1, columns);
        for (const int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          Matrix dx(rows, columns, 2, 1), dbias(1, columns);
          softplus_backward(pool, x.in(), of, low, high, dy.in(), dx.out(), dbias.data());
          dx.check_gaps();
          if (threads == 1) first = dbias;
          tests::expect_same_bits(dbias, first);
          std::vector<double> bound(static_cast<std::size_t>(columns));
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < columns; ++c) {
              const double sum = double{x.at(r, c)} + (biased ? bias.at(0, c) : 0.0F);
              const double y = reference::softplus(sum), error = 16.0 * kRounding * (1.0 + std::fabs(sum));
              // As close to a limit as rounding, either side is right.
              const bool undecided = std::fabs(y - low) < error || std::fabs(y - high) < error;
              const double most = std::fabs(dy.at(r, c)) * (undecided ? 1.0 : error);
              ASSERT_NEAR(dx.at(r, c), expected.at(r, c), most + tests::kTiny) << "sum " << sum;
              bound[static_cast<std::size_t>(c)] +=
                  most + kRounding * static_cast<double>(rows) * std::fabs(dy.at(r, c));
            }
          }
          for (std::int64_t c = 0; c < columns; ++c) {
            ASSERT_NEAR(dbias.at(0, c), expected_bias.at(0, c), bound[static_cast<std::size_t>(c)] + tests::kTiny);
          }
        }
      }
    }
  });
}

// <dy, repeat(x)> = <repeat_backward(dy), x>, term by term.
TEST(RepeatHeadsBackward, AddsTheCopies) {
  ThreadPool pool(2);
  Random random(5);
  Matrix dy(3, 24, 1, 1), dx(3, 8, 2);
  dy.fill_normal(random);
  repeat_heads_backward(pool, dy.in(), 4, dx.out());
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t c = 0; c < 8; ++c) {
      const std::int64_t from = c / 4 * 12 + c % 4;
      const double a = dy.at(r, from), b = dy.at(r, from + 4), d = dy.at(r, from + 8);
      ASSERT_NEAR(dx.at(r, c), a + b + d, 2.0 * kRounding * (std::fabs(a) + std::fabs(b) + std::fabs(d)));
    }
  }
  dx.check_gaps();
}

// A rotation's gradient is its inverse: turning there and back changes rounding only, and lengths stay.
TEST(RotaryBackward, TurnsBack) {
  ThreadPool pool(2);
  Random random(6);
  const std::vector<std::int64_t> positions = {0, 1, 7, 131071};
  for (const bool neighbours : {false, true}) {
    const Rotary rotary = {.width = 6, .theta = 1e4, .neighbours = neighbours};
    Matrix x(4, 3 * 10, 2, 1), dy(4, 3 * 10), table(4, 6);
    x.fill_normal(random);
    dy.fill_normal(random);
    rotary_table(pool, rotary, positions, table.out());
    Matrix there = x, back = dy;
    rotate(pool, rotary, table.in(), 10, there.out());
    rotate_backward(pool, rotary, table.in(), 10, back.out());
    for (std::int64_t r = 0; r < 4; ++r) {
      double left = 0.0, right = 0.0, of_x = 0.0, of_dy = 0.0;
      for (std::int64_t c = 0; c < 30; ++c) {
        left += double{there.at(r, c)} * dy.at(r, c);
        right += double{x.at(r, c)} * back.at(r, c);
        of_x += std::pow(x.at(r, c), 2);
        of_dy += std::pow(dy.at(r, c), 2);
      }
      // Cosines and sines are rounded once, each product and the sum once more: 3 roundings of |a| + |b| on either
      // side, which is at most sqrt(2) times the pair's length.
      ASSERT_NEAR(left, right, 2.0 * 3.0 * std::sqrt(2.0) * std::sqrt(2.0) * kRounding * std::sqrt(of_x * of_dy));
    }
    rotate_backward(pool, rotary, table.in(), 10, there.out());
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t c = 0; c < 30; ++c) {
        // Of both components of the pair; 4 bounds their size in x, drawn from the normal distribution.
        ASSERT_NEAR(there.at(r, c), x.at(r, c), 8.0 * kRounding * (std::fabs(x.at(r, c)) + 4.0));
      }
    }
    x.check_gaps();
  }
}

}  // namespace
}  // namespace krait::kernels
