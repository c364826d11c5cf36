#include "krait/kernels/layer_norm.h"

#include "krait/kernels/reference/rwkv7.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

// Sums take at most D / 4 additions and a handful on their longest path. The mean is off by as many roundings of the
// mean size of the values, which shifts every difference from it; in the variance only its square is left of that,
// since differences sum to zero. All terms of the variance are positive, and the root halves its relative error.
double bound(const Matrix& x, const LayerNorm& norm, std::int64_t row, std::int64_t column) {
  const std::int64_t width = x.columns() / norm.groups, begin = column / width * width;
  const auto count = static_cast<double>(width);
  double mean = 0.0, size = 0.0, variance = norm.epsilon;
  for (std::int64_t i = begin; i < begin + width; ++i) {
    mean += x.at(row, i) / count;
    size += std::fabs(x.at(row, i)) / count;
  }
  for (std::int64_t i = begin; i < begin + width; ++i) {
    variance += (x.at(row, i) - mean) * (x.at(row, i) - mean) / count;
  }
  const double path = count / 4.0 + 8.0;
  const double shift = path * kRounding * size;
  const double scale_error = (path / 2.0 + 4.0) * kRounding + shift * shift / variance;
  const double weight = norm.weight == nullptr ? 1.0 : std::fabs(norm.weight[column]);
  const double bias = norm.bias == nullptr ? 0.0 : std::fabs(norm.bias[column]);
  const double value = std::fabs(x.at(row, column) - mean) / std::sqrt(variance);
  return weight * (shift / std::sqrt(variance) + value * (scale_error + 4.0 * kRounding)) + 2.0 * kRounding * bias;
}

TEST(LayerNorm, MatchesOracleAtEveryLengthAndGroup) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t groups : {1, 2, 3}) {
      for (const std::int64_t width : tests::kLengths) {
        const std::int64_t columns = groups * width;
        Matrix x(5, columns, 3, 1), weight(1, columns, 0, 1), bias(1, columns), y(5, columns, 5, 3);
        x.fill([&] { return 2.0 + 3.0 * random.normal(); });
        weight.fill_normal(random);
        bias.fill_normal(random);
        for (const bool affine : {true, false}) {
          const LayerNorm norm{.weight = affine ? weight.data() : nullptr,
                               .bias = affine ? bias.data() : nullptr,
                               .epsilon = 1e-5F,
                               .groups = groups};
          layer_norm(pool, norm, x.in(), y.out());
          Expected expected(5, columns);
          reference::layer_norm(norm, x.in(), expected.out());
          tests::expect_near(y, expected, [&](auto r, auto c) { return bound(x, norm, r, c); });
          y.check_gaps();
          Matrix in_place = x;
          layer_norm(pool, norm, in_place.in(), in_place.out());
          tests::expect_same_bits(in_place, y);
        }
      }
    }
  });
}

TEST(LayerNorm, AConstantRowIsItsBias) {
  ThreadPool pool(1);
  on_every_target([&] {
    Matrix x(2, 21), bias(1, 21), y(2, 21);
    Random random(2);
    x.fill([] { return 0.5; });
    bias.fill_normal(random);
    layer_norm(pool, {.bias = bias.data()}, x.in(), y.out());
    for (std::int64_t c = 0; c < 21; ++c) EXPECT_EQ(y.at(1, c), bias.at(0, c));
  });
}

TEST(LayerNorm, RowsDoNotDependOnNeighboursOrThreads) {
  on_every_target([&] {
    Random random(3);
    Matrix x(300, 130), y(300, 130), alone(1, 130);
    x.fill_normal(random);
    ThreadPool one(1), three(3);
    layer_norm(three, {.groups = 2}, x.in(), y.out());
    for (const std::int64_t row : {0, 17, 299}) {
      layer_norm(one, {.groups = 2}, x.in().slice_rows(row, 1), alone.out());
      for (std::int64_t c = 0; c < 130; ++c) ASSERT_EQ(alone.at(0, c), y.at(row, c));
    }
  });
}

}  // namespace
}  // namespace krait::kernels
