#include "krait/kernels/activation_rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "krait/core/check.h"
#include "krait/core/random.h"
#include "krait/kernels/matmul.h"

namespace krait::kernels {
namespace {

std::vector<float> random_values(std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

std::vector<float> rounded(ActivationFormat format, std::vector<float> values, std::int64_t rows = 1) {
  ThreadPool pool(2);
  const RowsOut matrix(values.data(), rows, static_cast<std::int64_t>(values.size()) / rows);
  round_activations(pool, format, matrix, matrix);
  return values;
}

TEST(ActivationRounding, BlocksOf32AreWithinHalfAStepOfTheirOwnScale) {
  const auto x = random_values(4 * 96, 1);
  const auto y = rounded(ActivationFormat::kQ8Block32, x, 4);
  for (std::size_t block = 0; block < x.size(); block += 32) {
    float largest = 0;
    for (std::size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[block + i]));
    // Half a step, and the scale itself is kept in f16: 2^-11 of the value.
    for (std::size_t i = 0; i < 32; ++i) {
      EXPECT_LE(std::fabs(x[block + i] - y[block + i]), 0.5001F * largest / 127 + std::fabs(x[block + i]) * 0x1p-11F);
    }
  }
}

TEST(ActivationRounding, BlocksOf256KeepTheirLargestValueAndZeros) {
  auto x = random_values(512, 2);
  x[100] = -9;
  std::fill(x.begin() + 256, x.end(), 0.0F);
  const auto y = rounded(ActivationFormat::kQ8Block256, x);
  EXPECT_NEAR(y[100], -9, 9 * 0x1p-22);
  for (std::size_t i = 0; i < 256; ++i) EXPECT_LE(std::fabs(x[i] - y[i]), 0.5001F * 9 / 127) << i;
  for (std::size_t i = 256; i < 512; ++i) EXPECT_EQ(y[i], 0) << i;
}

TEST(ActivationRounding, SixteenBitFormatsRoundToNearest) {
  const auto bf16 = rounded(ActivationFormat::kBF16, {1.00390625F, -3.0F, 1.01171875F});
  EXPECT_EQ(bf16, (std::vector<float>{1.0F, -3.0F, 1.015625F}));  // ties go to the even neighbour
  const auto f16 = rounded(ActivationFormat::kF16, {1.00048828125F, 70000.0F});
  EXPECT_EQ(f16[0], 1.0F);
  EXPECT_TRUE(std::isinf(f16[1]));
}

TEST(ActivationRounding, RefusesRowsThatAreNotWholeBlocks) {
  EXPECT_THROW(rounded(ActivationFormat::kQ8Block256, random_values(257, 3)), InternalError);
}

TEST(ActivationRounding, LinearRoundsScalesAndAddsTheBias) {
  ThreadPool pool(2);
  constexpr std::int64_t kRows = 20, kIn = 64, kOut = 7;  // enough rows for the tiled product
  const auto x = random_values(kRows * kIn, 4);
  const auto w = random_values(kOut * kIn, 5);
  const auto bias = random_values(kOut, 6);
  WeightMatrix matrix;
  matrix.rows = kOut;
  matrix.columns = kIn;
  matrix.data = reinterpret_cast<const std::byte*>(w.data());
  matrix.scale = -1.5F;
  matrix.activations = ActivationFormat::kQ8Block32;
  const auto kept = rounded(ActivationFormat::kQ8Block32, x, kRows);
  for (const std::int64_t rows : {std::int64_t{1}, kRows}) {
    std::vector<float> y(static_cast<std::size_t>(rows * kOut));
    linear(pool, RowsIn(x.data(), rows, kIn), matrix, bias.data(), RowsOut(y.data(), rows, kOut));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t n = 0; n < kOut; ++n) {
        double sum = 0;
        double magnitude = 0;
        for (std::int64_t k = 0; k < kIn; ++k) {
          const double product = static_cast<double>(kept[static_cast<std::size_t>(r * kIn + k)]) *
                                 static_cast<double>(w[static_cast<std::size_t>(n * kIn + k)]);
          sum += product;
          magnitude += std::fabs(product);
        }
        const double expected = -1.5 * sum + static_cast<double>(bias[static_cast<std::size_t>(n)]);
        // 64 products summed in f32, then two more roundings.
        EXPECT_NEAR(y[static_cast<std::size_t>(r * kOut + n)], expected, 1.5 * magnitude * 68 * 0x1p-24);
      }
    }
  }
}

}  // namespace
}  // namespace krait::kernels
