#include "krait/kernels/norm.h"

#include "krait/kernels/reference/elementwise.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

// All terms of the sum of squares are positive, so its relative error is at most one rounding for each addition on
// the longest path: at most D / 4 lanes + a handful. The root halves it; the quotient, scale and weight add theirs.
// A gate adds silu's 6 and a product, and enters the sum of squares twice.
double norm_bound(std::int64_t columns, bool gated, double value) {
  const double sum = static_cast<double>(columns) / 4 + 6.0 + (gated ? 16.0 : 0.0);
  return (sum / 2.0 + 5.0 + (gated ? 7.0 : 0.0)) * kRounding * std::fabs(value);
}

TEST(RmsNorm, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t columns : tests::kLengths) {
      Matrix x(6, columns, 3, 1), weight(1, columns, 0, 1), y(6, columns, 5, 3);
      x.fill_normal(random, 3.0);
      weight.fill_normal(random);
      for (const float* w : {static_cast<const float*>(weight.data()), static_cast<const float*>(nullptr)}) {
        rms_norm(pool, x.in(), w, 1e-5F, y.out());
        Expected expected(6, columns);
        reference::rms_norm(x.in(), w, 1e-5F, expected.out());
        tests::expect_near(y, expected, [&](auto r, auto c) { return norm_bound(columns, false, expected.at(r, c)); });
        y.check_gaps();
      }
      rms_norm(pool, x.in(), nullptr, 1e-5F, x.out());
      tests::expect_same_bits(x, y);
    }
  });
}

TEST(RmsNorm, ZerosStayZero) {
  ThreadPool pool(1);
  Matrix x(2, 20), y(2, 20);
  rms_norm(pool, x.in(), nullptr, 1e-5F, y.out());
  for (std::int64_t c = 0; c < 20; ++c) EXPECT_EQ(y.at(1, c), 0.0F);
}

TEST(RmsNorm, AddedResidualIsKeptAndNormalised) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t columns : tests::kLengths) {
      Matrix residual(4, columns, 1, 1), delta(4, columns, 2), weight(1, columns), y(4, columns), expected(4, columns);
      residual.fill_normal(random);
      delta.fill_normal(random);
      weight.fill_normal(random);
      Matrix sum = residual;
      for (std::int64_t r = 0; r < 4; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) sum.at(r, c) += delta.at(r, c);
      }
      add_rms_norm(pool, residual.out(), delta.in(), weight.data(), 1e-5F, y.out());
      rms_norm(pool, sum.in(), weight.data(), 1e-5F, expected.out());
      tests::expect_same_bits(residual, sum);
      tests::expect_same_bits(y, expected);
    }
  });
}

TEST(GatedRmsNorm, BothOrdersAndGroupsMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(3);
    for (const std::int64_t groups : {1, 2, 3}) {
      for (const std::int64_t width : tests::kLengths) {
        const std::int64_t columns = groups * width;
        Matrix x(5, columns, 1, 1), gate(5, columns, 4), weight(1, columns), y(5, columns, 2, 1);
        x.fill_normal(random);
        gate.fill_normal(random, 2.0);
        weight.fill_normal(random);
        for (const GateOrder order : {GateOrder::kGateThenNorm, GateOrder::kNormThenGate}) {
          gated_rms_norm(pool, x.in(), gate.in(), weight.data(), 1e-5F, groups, order, y.out());
          Expected expected(5, columns);
          reference::gated_rms_norm(x.in(), gate.in(), weight.data(), 1e-5F, groups, order, expected.out());
          tests::expect_near(y, expected, [&](auto r, auto c) { return norm_bound(width, true, expected.at(r, c)); });
          Matrix in_place = x;
          gated_rms_norm(pool, in_place.in(), gate.in(), weight.data(), 1e-5F, groups, order, in_place.out());
          tests::expect_same_bits(in_place, y);
        }
      }
    }
  });
}

TEST(RmsNorm, RowsDoNotDependOnNeighboursOrThreads) {
  on_every_target([&] {
    Random random(4);
    Matrix x(300, 130), y(300, 130), alone(1, 130);
    x.fill_normal(random);
    ThreadPool one(1), three(3);
    rms_norm(three, x.in(), nullptr, 1e-5F, y.out());
    for (const std::int64_t row : {0, 17, 299}) {
      rms_norm(one, x.in().slice_rows(row, 1), nullptr, 1e-5F, alone.out());
      for (std::int64_t c = 0; c < 130; ++c) ASSERT_EQ(alone.at(0, c), y.at(row, c));
    }
  });
}

}  // namespace
}  // namespace krait::kernels
