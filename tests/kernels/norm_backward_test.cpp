#include "krait/kernels/norm_backward.h"

#include <string_view>

#include "krait/kernels/layer_norm_backward.h"
#include "krait/kernels/reference/elementwise.h"
#include "krait/kernels/reference/norm_backward.h"
#include "krait/kernels/reference/rwkv7.h"
#include "tests/kernels/golden_tensors.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/layer_gradient_testing.h"
#include "tests/kernels/wide_matrix.h"
#include "tests/support/shared_data.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

constexpr double kEpsilon = 1e-5F;

// dx = r g - x r^3 m. Sums of D terms are off by at most D / 4 roundings and a handful of their absolute terms; r by
// half of that, its cube by three halves, m by a whole. `more`: roundings of the factors that u and g were made with.
double roundings_of_norm(std::int64_t width, double more) {
  return (1.5 / 2.0 + 1.0) * (static_cast<double>(width) / 4.0 + 8.0) + 16.0 + 5.0 * more;
}

// Of one group: |r g| + |u| r^3 mean|g u|, the size of what dx is the difference of. u and g as functions of the index.
template <class Input, class Gradient>
std::vector<double> size_of_dx(std::int64_t width, Input&& u, Gradient&& g) {
  double squares = 0.0, products = 0.0;
  for (std::int64_t i = 0; i < width; ++i) {
    squares += u(i) * u(i) / static_cast<double>(width);
    products += std::fabs(u(i) * g(i)) / static_cast<double>(width);
  }
  const double r = 1.0 / std::sqrt(squares + kEpsilon);
  std::vector<double> sizes;
  for (std::int64_t i = 0; i < width; ++i)
    sizes.push_back(std::fabs(r * g(i)) + std::fabs(u(i)) * r * r * r * products);
  return sizes;
}

void expect_within(const Matrix& actual, const WideMatrix& expected, const WideMatrix& bound) {
  for (std::int64_t r = 0; r < actual.rows(); ++r) {
    for (std::int64_t c = 0; c < actual.columns(); ++c) {
      ASSERT_NEAR(actual.at(r, c), expected.at(r, c), kRounding * bound.at(r, c) + tests::kTiny)
          << "row " << r << ", column " << c;
    }
  }
  actual.check_gaps();
}

TEST(RmsNormBackward, OracleIsTheDerivativeOfTheForward) {
  Random random(1);
  WideMatrix x(3, 7), weight(1, 7), dy(3, 7), dresidual(3, 7), dx(3, 7), dweight(1, 7);
  for (WideMatrix* m : {&x, &weight, &dy, &dresidual}) m->fill_normal(random);
  reference::rms_norm_backward(x.in(), weight.data(), 0.1, dy.in(), dresidual.in(),
                               {.x = dx.out(), .weight = dweight.data()});
  const auto loss = [&] {
    WideMatrix y(3, 7);
    reference::rms_norm(x.in(), weight.data(), 0.1, y.out());
    return tests::weighted_sum(dy, y) + tests::weighted_sum(dresidual, x);
  };
  tests::expect_derivatives(x.values(), dx.values(), loss);
  tests::expect_derivatives(weight.values(), dweight.values(), loss);
}

TEST(GatedRmsNormBackward, OracleIsTheDerivativeOfTheForward) {
  Random random(2);
  for (const GateOrder order : {GateOrder::kGateThenNorm, GateOrder::kNormThenGate}) {
    for (const std::int64_t groups : {1, 3}) {
      WideMatrix x(2, 15), gate(2, 15), weight(1, 15), dy(2, 15), dx(2, 15), dgate(2, 15), dweight(1, 15);
      for (WideMatrix* m : {&x, &gate, &weight, &dy}) m->fill_normal(random);
      reference::gated_rms_norm_backward(x.in(), gate.in(), weight.data(), 0.1, groups, order, dy.in(),
                                         {.x = dx.out(), .gate = dgate.out(), .weight = dweight.data()});
      const auto loss = [&] {
        WideMatrix y(2, 15);
        reference::gated_rms_norm(x.in(), gate.in(), weight.data(), 0.1, groups, order, y.out());
        return tests::weighted_sum(dy, y);
      };
      tests::expect_derivatives(x.values(), dx.values(), loss);
      tests::expect_derivatives(gate.values(), dgate.values(), loss);
      tests::expect_derivatives(weight.values(), dweight.values(), loss);
    }
  }
}

TEST(LayerNormBackward, OracleIsTheDerivativeOfTheForward) {
  Random random(3);
  for (const std::int64_t groups : {1, 3}) {
    WideMatrix x(2, 15), weight(1, 15), bias(1, 15), dy(2, 15), dx(2, 15), dweight(1, 15), dbias(1, 15);
    for (WideMatrix* m : {&x, &weight, &bias, &dy}) m->fill_normal(random);
    const LayerNormOf<double> norm{.weight = weight.data(), .bias = bias.data(), .epsilon = 0.1, .groups = groups};
    reference::layer_norm_backward(norm, x.in(), dy.in(),
                                   {.x = dx.out(), .weight = dweight.data(), .bias = dbias.data()});
    const auto loss = [&] {
      WideMatrix y(2, 15);
      reference::layer_norm(norm, x.in(), y.out());
      return tests::weighted_sum(dy, y);
    };
    tests::expect_derivatives(x.values(), dx.values(), loss);
    tests::expect_derivatives(weight.values(), dweight.values(), loss);
    tests::expect_derivatives(bias.values(), dbias.values(), loss);
  }
}

// What a parameter's gradient starts from: it is added to.
constexpr double kBefore = 2.0;

struct RmsCase {
  Matrix x, dy, dresidual, weight, dx, dweight;

  RmsCase(std::int64_t rows, std::int64_t columns, Random& random)
      : x(rows, columns, 3, 1),
        dy(rows, columns, 1, 3),
        dresidual(rows, columns, 2),
        weight(1, columns, 0, 1),
        dx(rows, columns, 5, 1),
        dweight(1, columns, 0, 1) {
    for (Matrix* m : {&x, &dy, &dresidual, &weight}) m->fill_normal(random, 2.0);
    dweight.fill([] { return kBefore; });
  }

  void expect(bool weighted, bool residual) const {
    const std::int64_t rows = x.rows(), columns = x.columns();
    const WideMatrix wide_x(x), wide_dy(dy), wide_weight(weight), wide_dresidual(dresidual);
    WideMatrix expected(rows, columns), expected_weight(dweight), bound(rows, columns), bound_weight(1, columns);
    for (double& v : expected_weight.values()) v = kBefore;
    reference::rms_norm_backward(wide_x.in(), weighted ? wide_weight.data() : nullptr, kEpsilon, wide_dy.in(),
                                 residual ? wide_dresidual.in() : Rows<const double>(),
                                 {.x = expected.out(), .weight = expected_weight.data()});
    const double roundings = roundings_of_norm(columns, 1.0);
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto g = [&](auto i) { return wide_dy.at(r, i) * (weighted ? wide_weight.at(0, i) : 1.0); };
      const auto sizes = size_of_dx(columns, [&](auto i) { return wide_x.at(r, i); }, g);
      double squares = 0.0;
      for (std::int64_t c = 0; c < columns; ++c) squares += std::pow(wide_x.at(r, c), 2) / static_cast<double>(columns);
      const double scale = 1.0 / std::sqrt(squares + kEpsilon);
      for (std::int64_t c = 0; c < columns; ++c) {
        bound.at(r, c) = roundings * sizes[static_cast<std::size_t>(c)] + 2.0 * std::fabs(wide_dresidual.at(r, c));
        bound_weight.at(0, c) +=
            (roundings + static_cast<double>(rows)) * (std::fabs(wide_dy.at(r, c) * wide_x.at(r, c)) * scale + kBefore);
      }
    }
    expect_within(dx, expected, bound);
    expect_within(dweight, expected_weight, bound_weight);
  }
};

TEST(RmsNormBackward, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(4);
    for (const std::int64_t columns : tests::kLengths) {
      for (const std::int64_t rows : {0, 1, 6}) {
        SCOPED_TRACE(::testing::Message() << rows << " x " << columns);
        for (const bool weighted : {true, false}) {
          RmsCase c(rows, columns, random);
          const float* weight = weighted ? c.weight.data() : nullptr;
          rms_norm_backward(pool, c.x.in(), weight, kEpsilon, c.dy.in(), {.x = c.dx.out(), .weight = c.dweight.data()});
          c.expect(weighted, false);
          RmsCase added(rows, columns, random);
          add_rms_norm_backward(pool, added.x.in(), weighted ? added.weight.data() : nullptr, kEpsilon, added.dy.in(),
                                added.dresidual.in(), {.x = added.dx.out(), .weight = added.dweight.data()});
          added.expect(weighted, true);
        }
      }
    }
  });
}

TEST(RmsNormBackward, WorksInThePlaceOfItsInputs) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(5);
    RmsCase c(9, 37, random);
    add_rms_norm_backward(pool, c.x.in(), c.weight.data(), kEpsilon, c.dy.in(), c.dresidual.in(), {.x = c.dx.out()});
    for (Matrix* place : {&c.x, &c.dy, &c.dresidual}) {
      const Matrix before = *place;
      add_rms_norm_backward(pool, c.x.in(), c.weight.data(), kEpsilon, c.dy.in(), c.dresidual.in(),
                            {.x = place->out()});
      tests::expect_same_bits(*place, c.dx);
      *place = before;
    }
  });
}

struct GatedCase {
  Matrix x, gate, dy, weight, dx, dgate, dweight;

  GatedCase(std::int64_t rows, std::int64_t columns, Random& random)
      : x(rows, columns, 3, 1),
        gate(rows, columns, 1),
        dy(rows, columns, 2, 3),
        weight(1, columns, 0, 1),
        dx(rows, columns, 5, 1),
        dgate(rows, columns, 1, 1),
        dweight(1, columns) {
    for (Matrix* m : {&x, &gate, &dy, &weight}) m->fill_normal(random, 2.0);
    dweight.fill([] { return kBefore; });
  }

  // silu(z) rounds some 8 times, its slope 10 and once more for each unit of |z|.
  void expect(std::int64_t groups, GateOrder order) const {
    const std::int64_t rows = x.rows(), columns = x.columns(), width = columns / groups;
    const bool gate_first = order == GateOrder::kGateThenNorm;
    const WideMatrix wx(x), wz(gate), wdy(dy), ww(weight);
    WideMatrix expected(rows, columns), expected_gate(rows, columns), expected_weight(1, columns);
    WideMatrix bound(rows, columns), bound_gate(rows, columns), bound_weight(1, columns);
    for (double& v : expected_weight.values()) v = kBefore;
    reference::gated_rms_norm_backward(
        wx.in(), wz.in(), ww.data(), kEpsilon, groups, order, wdy.in(),
        {.x = expected.out(), .gate = expected_gate.out(), .weight = expected_weight.data()});
    const double roundings = roundings_of_norm(width, 8.0);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t begin = 0; begin < columns; begin += width) {
        const auto factor = [&](auto i) { return reference::silu(wz.at(r, begin + i)); };
        const auto u = [&](auto i) { return wx.at(r, begin + i) * (gate_first ? factor(i) : 1.0); };
        const auto g = [&](auto i) {
          return wdy.at(r, begin + i) * ww.at(0, begin + i) * (gate_first ? 1.0 : factor(i));
        };
        const auto sizes = size_of_dx(width, u, g);
        double squares = 0.0;
        for (std::int64_t i = 0; i < width; ++i) squares += u(i) * u(i) / static_cast<double>(width);
        const double scale = 1.0 / std::sqrt(squares + kEpsilon);
        for (std::int64_t i = 0; i < width; ++i) {
          const std::int64_t c = begin + i;
          const double size = sizes[static_cast<std::size_t>(i)], z = wz.at(r, c);
          const double slope = std::fabs(reference::silu_slope(z)), slope_error = 12.0 + std::fabs(z);
          const double through =
              gate_first ? size * std::fabs(wx.at(r, c)) : std::fabs(wdy.at(r, c) * ww.at(0, c) * wx.at(r, c)) * scale;
          bound.at(r, c) = roundings * size * (gate_first ? std::fabs(factor(i)) : 1.0);
          bound_gate.at(r, c) = through * (roundings * slope + slope_error);
          bound_weight.at(0, c) += (roundings + static_cast<double>(rows)) *
                                   (std::fabs(wdy.at(r, c) * wx.at(r, c) * factor(i)) * scale + kBefore);
        }
      }
    }
    expect_within(dx, expected, bound);
    expect_within(dgate, expected_gate, bound_gate);
    expect_within(dweight, expected_weight, bound_weight);
  }
};

TEST(GatedRmsNormBackward, BothOrdersAndGroupsMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(6);
    for (const std::int64_t groups : {1, 2, 3}) {
      for (const std::int64_t width : tests::kLengths) {
        for (const GateOrder order : {GateOrder::kGateThenNorm, GateOrder::kNormThenGate}) {
          SCOPED_TRACE(::testing::Message() << groups << " groups of " << width);
          GatedCase c(5, groups * width, random);
          gated_rms_norm_backward(pool, c.x.in(), c.gate.in(), c.weight.data(), kEpsilon, groups, order, c.dy.in(),
                                  {.x = c.dx.out(), .gate = c.dgate.out(), .weight = c.dweight.data()});
          c.expect(groups, order);
          // In place, and without a weight's gradient.
          GatedCase places = c;
          gated_rms_norm_backward(pool, places.x.in(), places.gate.in(), c.weight.data(), kEpsilon, groups, order,
                                  places.dy.in(), {.x = places.x.out(), .gate = places.gate.out()});
          tests::expect_same_bits(places.x, c.dx);
          tests::expect_same_bits(places.gate, c.dgate);
        }
      }
    }
  });
}

struct LayerCase {
  Matrix x, dy, weight, bias, dx, dweight, dbias;

  LayerCase(std::int64_t rows, std::int64_t columns, Random& random)
      : x(rows, columns, 3, 1),
        dy(rows, columns, 1, 3),
        weight(1, columns, 0, 1),
        bias(1, columns),
        dx(rows, columns, 5, 1),
        dweight(1, columns),
        dbias(1, columns) {
    x.fill([&] { return 2.0 + 3.0 * random.normal(); });
    for (Matrix* m : {&dy, &weight, &bias}) m->fill_normal(random);
    for (Matrix* m : {&dweight, &dbias}) m->fill([] { return kBefore; });
  }
};

// The mean is off by some roundings of the mean size of x, which shifts every n by that much times r; the variance is
// a sum of positive terms. dx is r times a difference of three terms of g's size, each sum as long as the group.
void expect_layer_norm(const LayerCase& c, std::int64_t groups, bool affine) {
  const std::int64_t rows = c.x.rows(), columns = c.x.columns(), width = columns / groups;
  const WideMatrix x(c.x), dy(c.dy), weight(c.weight), bias(c.bias);
  WideMatrix expected(rows, columns), expected_weight(1, columns), expected_bias(1, columns);
  WideMatrix bound(rows, columns), bound_weight(1, columns), bound_bias(1, columns);
  for (WideMatrix* m : {&expected_weight, &expected_bias}) {
    for (double& v : m->values()) v = kBefore;
  }
  const LayerNormOf<double> norm{.weight = affine ? weight.data() : nullptr,
                                 .bias = affine ? bias.data() : nullptr,
                                 .epsilon = kEpsilon,
                                 .groups = groups};
  reference::layer_norm_backward(norm, x.in(), dy.in(),
                                 {.x = expected.out(), .weight = expected_weight.data(), .bias = expected_bias.data()});
  const double path = static_cast<double>(width) / 4.0 + 8.0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t begin = 0; begin < columns; begin += width) {
      const auto count = static_cast<double>(width);
      double mean = 0.0, size = 0.0, variance = 0.0, flow = 0.0, products = 0.0;
      for (std::int64_t i = begin; i < begin + width; ++i) mean += x.at(r, i) / count;
      for (std::int64_t i = begin; i < begin + width; ++i) {
        const double g = std::fabs(dy.at(r, i)) * (affine ? std::fabs(weight.at(0, i)) : 1.0);
        size += std::fabs(x.at(r, i)) / count;
        variance += std::pow(x.at(r, i) - mean, 2) / count;
        flow += g / count;
        products += g * std::fabs(x.at(r, i) - mean) / count;
      }
      const double scale = 1.0 / std::sqrt(variance + kEpsilon), shift = path * size * scale;
      for (std::int64_t i = begin; i < begin + width; ++i) {
        const double g = std::fabs(dy.at(r, i)) * (affine ? std::fabs(weight.at(0, i)) : 1.0);
        const double n = std::fabs(x.at(r, i) - mean) * scale, product = products * scale;
        const double n_error = shift + n * (path / 2.0 + 6.0);
        bound.at(r, i) =
            scale * ((g + flow) * (2.0 * path) + n_error * product + n * (product * 2.0 * path + flow * shift));
        bound_weight.at(0, i) += std::fabs(dy.at(r, i)) * (n_error + n * static_cast<double>(rows + 4)) +
                                 kBefore * static_cast<double>(rows + 4);
        bound_bias.at(0, i) += (std::fabs(dy.at(r, i)) + kBefore) * static_cast<double>(rows + 4);
      }
    }
  }
  expect_within(c.dx, expected, bound);
  expect_within(c.dweight, expected_weight, bound_weight);
  expect_within(c.dbias, expected_bias, bound_bias);
}

TEST(LayerNormBackward, MatchesOracleAtEveryLengthAndGroup) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(7);
    for (const std::int64_t groups : {1, 2, 3}) {
      for (const std::int64_t width : tests::kLengths) {
        for (const bool affine : {true, false}) {
          SCOPED_TRACE(::testing::Message() << groups << " groups of " << width);
          LayerCase c(5, groups * width, random);
          const LayerNorm norm{.weight = affine ? c.weight.data() : nullptr,
                               .bias = affine ? c.bias.data() : nullptr,
                               .epsilon = static_cast<float>(kEpsilon),
                               .groups = groups};
          layer_norm_backward(pool, norm, c.x.in(), c.dy.in(),
                              {.x = c.dx.out(), .weight = c.dweight.data(), .bias = c.dbias.data()});
          expect_layer_norm(c, groups, affine);
          layer_norm_backward(pool, norm, c.x.in(), c.dy.in(), {.x = c.x.out()});
          tests::expect_same_bits(c.x, c.dx);
        }
      }
    }
  });
}

// Rows of three parts; the last is not a whole one.
TEST(NormBackward, ThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(8);
    const std::int64_t rows = 37, columns = 4099;
    const RmsCase rms(rows, columns, random);
    const GatedCase gated(rows, columns, random);
    const LayerCase layer(rows, columns, random);
    std::vector<RmsCase> all_rms;
    std::vector<GatedCase> all_gated;
    std::vector<LayerCase> all_layer;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      RmsCase& r = all_rms.emplace_back(rms);
      rms_norm_backward(pool, r.x.in(), r.weight.data(), kEpsilon, r.dy.in(),
                        {.x = r.dx.out(), .weight = r.dweight.data()});
      GatedCase& g = all_gated.emplace_back(gated);
      gated_rms_norm_backward(pool, g.x.in(), g.gate.in(), g.weight.data(), kEpsilon, 1, GateOrder::kGateThenNorm,
                              g.dy.in(), {.x = g.dx.out(), .gate = g.dgate.out(), .weight = g.dweight.data()});
      LayerCase& l = all_layer.emplace_back(layer);
      layer_norm_backward(pool, {.weight = l.weight.data()}, l.x.in(), l.dy.in(),
                          {.x = l.dx.out(), .weight = l.dweight.data(), .bias = l.dbias.data()});
      tests::expect_same_bits(r.dx, all_rms.front().dx);
      tests::expect_same_bits(r.dweight, all_rms.front().dweight);
      tests::expect_same_bits(g.dx, all_gated.front().dx);
      tests::expect_same_bits(g.dgate, all_gated.front().dgate);
      tests::expect_same_bits(g.dweight, all_gated.front().dweight);
      tests::expect_same_bits(l.dx, all_layer.front().dx);
      tests::expect_same_bits(l.dweight, all_layer.front().dweight);
      tests::expect_same_bits(l.dbias, all_layer.front().dbias);
    }
    all_rms.front().expect(true, false);
    all_gated.front().expect(1, GateOrder::kGateThenNorm);
    expect_layer_norm(all_layer.front(), 1, true);
  });
}

class GoldenNormBackward : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenNormBackward, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const std::string_view name = GetParam();
  const tests::Golden golden(tests::file_of(path, GetParam()));
  const tests::Tensor x_in = golden.read("in.x"), w_in = golden.read("in.weight"), up = golden.read("up.y");
  const tests::Tensor dx = golden.read("grad.x"), dw = golden.read("grad.weight");
  const bool gated = golden.has("in.z");
  const tests::Tensor dz = gated ? golden.read("grad.z") : tests::Tensor();
  const std::int64_t columns = x_in.size(2), rows = x_in.size(0) * x_in.size(1);
  const auto flat = [&](const tests::Tensor& from) {
    return tests::matrix_of(rows, columns,
                            [&](auto r, auto c) { return from.at({r / x_in.size(1), r % x_in.size(1), c}); });
  };
  const Matrix x = flat(x_in), dy = flat(up), gate = gated ? flat(golden.read("in.z")) : Matrix();
  const Matrix weight = tests::matrix_of(1, columns, [&](auto, auto c) { return w_in.at({c}); });
  const std::int64_t groups = name.ends_with("grouped") ? columns / 8 : 1;  // group_size 8
  const GateOrder order = name.starts_with("norm_gate_then_norm") ? GateOrder::kGateThenNorm : GateOrder::kNormThenGate;
  const double epsilon = name == "norm_norm_then_gate_grouped" ? 1e-6 : 1e-5;
  const auto compare = [&](const auto& to_x, const auto& to_gate, const auto& to_weight, double tolerance) {
    for (std::int64_t c = 0; c < columns; ++c) {
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t batch = r / x_in.size(1), t = r % x_in.size(1);
        ASSERT_NEAR(to_x.at(r, c), dx.at({batch, t, c}), tolerance * dx.largest);
        if (gated) {
          ASSERT_NEAR(to_gate.at(r, c), dz.at({batch, t, c}), tolerance * dz.largest);
        }
      }
      ASSERT_NEAR(to_weight.at(0, c), dw.at({c}), tolerance * dw.largest);
    }
  };
  const WideMatrix wide_x(x), wide_dy(dy), wide_gate(gate), wide_weight(weight);
  WideMatrix to_x(rows, columns), to_gate(rows, columns), to_weight(1, columns);
  if (gated) {
    reference::gated_rms_norm_backward(wide_x.in(), wide_gate.in(), wide_weight.data(), epsilon, groups, order,
                                       wide_dy.in(),
                                       {.x = to_x.out(), .gate = to_gate.out(), .weight = to_weight.data()});
  } else {
    reference::rms_norm_backward(wide_x.in(), wide_weight.data(), epsilon, wide_dy.in(), {},
                                 {.x = to_x.out(), .weight = to_weight.data()});
  }
  compare(to_x, to_gate, to_weight, 1e-9);
  ThreadPool pool(2);
  on_every_target([&] {
    Matrix kernel_x(rows, columns), kernel_gate(rows, columns), kernel_weight(1, columns);
    if (gated) {
      gated_rms_norm_backward(pool, x.in(), gate.in(), weight.data(), static_cast<float>(epsilon), groups, order,
                              dy.in(),
                              {.x = kernel_x.out(), .gate = kernel_gate.out(), .weight = kernel_weight.data()});
    } else {
      rms_norm_backward(pool, x.in(), weight.data(), static_cast<float>(epsilon), dy.in(),
                        {.x = kernel_x.out(), .weight = kernel_weight.data()});
    }
    compare(kernel_x, kernel_gate, kernel_weight, 1e-5);
  });
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenNormBackward,
                         ::testing::Values("norm_gate_then_norm", "norm_gate_then_norm_grouped", "norm_norm_then_gate",
                                           "norm_norm_then_gate_grouped", "norm_plain"));

}  // namespace
}  // namespace krait::kernels
