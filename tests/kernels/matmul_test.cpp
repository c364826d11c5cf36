#include "krait/kernels/matmul.h"

#include <cstring>

#include "krait/core/check.h"
#include "krait/kernels/reference/matmul.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

// A weight matrix that starts at an odd address.
class Weights {
 public:
  Weights(DType dtype, std::int64_t rows, std::int64_t columns, Random& random) {
    const std::size_t bytes = dtype == DType::kF32 ? 4 : 2;
    const auto count = static_cast<std::size_t>(rows * columns);
    storage_.resize(1 + count * bytes);
    for (std::size_t i = 0; i < count; ++i) {
      const auto value = static_cast<float>(random.normal());
      const std::uint16_t half = dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
      std::memcpy(storage_.data() + 1 + i * bytes, dtype == DType::kF32 ? static_cast<const void*>(&value) : &half,
                  bytes);
    }
    matrix_ = {.dtype = dtype, .rows = rows, .columns = columns, .data = storage_.data() + 1};
  }
  const WeightMatrix& matrix() const { return matrix_; }
  // Sum over k of |w[n, k]| |x[k]|.
  double magnitude(const Matrix& x, std::int64_t m, std::int64_t n) const {
    double sum = 0.0;
    for (std::int64_t k = 0; k < x.columns(); ++k) {
      sum += std::fabs(double{x.at(m, k)} * reference::weight_at(matrix_, n, k));
    }
    return sum;
  }

 private:
  std::vector<std::byte> storage_;
  WeightMatrix matrix_;
};

// Whatever the order of a sum of K products and a bias, its error is at most K + 1 roundings of the sum of
// magnitudes.
void expect_linear(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, DType dtype, bool biased) {
  SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k << " " << to_string(dtype));
  Random random(static_cast<std::uint64_t>(m + 100 * n + 10000 * k));
  Matrix x(m, k, 3, 1), y(m, n, 2, 1), bias(1, n, 0, 1);
  x.fill_normal(random);
  bias.fill_normal(random);
  const Weights weights(dtype, n, k, random);
  const float* b = biased ? bias.data() : nullptr;
  linear(pool, x.in(), weights.matrix(), b, y.out());
  Expected expected(m, n);
  reference::linear(x.in(), weights.matrix(), b, expected.out());
  tests::expect_near(y, expected, [&](auto r, auto c) {
    return kRounding * static_cast<double>(k + 1) * (weights.magnitude(x, r, c) + std::fabs(bias.at(0, c)));
  });
  y.check_gaps();
}

constexpr DType kWeightTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

TEST(Linear, FewRowsMatchOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    for (const DType dtype : kWeightTypes) {
      for (const std::int64_t k : tests::kLengths) expect_linear(pool, 3, 29, k, dtype, true);
      for (std::int64_t m = 0; m <= 17; ++m) expect_linear(pool, m, 53, 37, dtype, m % 2 == 0);
      for (const std::int64_t n : {0, 1, 2, 7, 8, 23, 24, 25, 47}) expect_linear(pool, 1, n, 19, dtype, false);
    }
  });
}

TEST(Linear, ManyRowsMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    for (const DType dtype : kWeightTypes) {
      expect_linear(pool, 40, 33, 70, dtype, true);
      expect_linear(pool, 300, 200, 17, dtype, false);
      expect_linear(pool, 33, 500, 1, dtype, true);
      expect_linear(pool, 33, 5, 0, dtype, true);
    }
  });
}

TEST(Linear, ARowOfASmallBatchHasTheBitsItHasAlone) {
  ThreadPool pool(2);
  on_every_target([&] {
    for (const DType dtype : kWeightTypes) {
      Random random(7);
      Matrix x(16, 133);
      x.fill_normal(random);
      const Weights weights(dtype, 61, 133, random);
      Matrix alone(16, 61);
      for (std::int64_t m = 0; m < 16; ++m) {
        linear(pool, x.in().slice_rows(m, 1), weights.matrix(), nullptr, alone.out().slice_rows(m, 1));
      }
      for (std::int64_t m = 1; m <= 16; ++m) {
        Matrix y(m, 61);
        linear(pool, x.in().slice_rows(0, m), weights.matrix(), nullptr, y.out());
        for (std::int64_t r = 0; r < m; ++r) {
          for (std::int64_t n = 0; n < 61; ++n) ASSERT_EQ(y.at(r, n), alone.at(r, n)) << m << " rows";
        }
      }
    }
  });
}

TEST(Linear, ThreadsDoNotMatter) {
  on_every_target([&] {
    for (const DType dtype : kWeightTypes) {
      for (const std::int64_t m : {1, 5, 300}) {
        Random random(8);
        Matrix x(m, 96), first(m, 400);
        x.fill_normal(random);
        const Weights weights(dtype, 400, 96, random);
        for (const int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          Matrix y(m, 400);
          linear(pool, x.in(), weights.matrix(), nullptr, y.out());
          if (threads == 1) first = y;
          tests::expect_same_bits(y, first);
        }
      }
    }
  });
}

TEST(Embed, WidensTheRowsAskedFor) {
  ThreadPool pool(2);
  on_every_target([&] {
    for (const DType dtype : kWeightTypes) {
      Random random(9);
      const Weights table(dtype, 11, 37, random);
      const std::int32_t ids[] = {10, 0, 3, 3};
      Matrix y(4, 37, 1, 1);
      embed(pool, table.matrix(), ids, y.out());
      for (std::int64_t r = 0; r < 4; ++r) {
        for (std::int64_t c = 0; c < 37; ++c) {
          ASSERT_EQ(y.at(r, c), reference::weight_at(table.matrix(), ids[r], c));
        }
      }
    }
  });
}

TEST(Embed, IdOutsideTheTableIsCaught) {
  ThreadPool pool(1);
  Random random(10);
  const Weights table(DType::kF32, 4, 8, random);
  Matrix y(1, 8);
  for (const std::int32_t id : {-1, 4}) EXPECT_THROW(embed(pool, table.matrix(), &id, y.out()), InternalError);
}

TEST(Gemm, F32IsRowMajorWithEitherB) {
  Random random(11);
  const std::int64_t m = 9, n = 13, k = 21;
  Matrix a(m, k, 2), b(k, n, 3), bt(n, k, 1), c(m, n, 4), ct(m, n, 4);
  a.fill_normal(random);
  b.fill_normal(random);
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < n; ++j) bt.at(j, i) = b.at(i, j);
  }
  gemm_f32({}, m, n, k, a.data(), k + 2, b.data(), n + 3, c.data(), n + 4);
  gemm_f32({.b_transposed = true}, m, n, k, a.data(), k + 2, bt.data(), k + 1, ct.data(), n + 4);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0.0, magnitude = 0.0;
      for (std::int64_t l = 0; l < k; ++l) {
        sum += double{a.at(i, l)} * b.at(l, j);
        magnitude += std::fabs(double{a.at(i, l)} * b.at(l, j));
      }
      ASSERT_NEAR(c.at(i, j), sum, kRounding * (k + 1) * magnitude);
      ASSERT_NEAR(ct.at(i, j), sum, kRounding * (k + 1) * magnitude);
    }
  }
}

TEST(Gemm, Bf16AccumulatesInF32) {
  if (!gemm_bf16_available()) GTEST_SKIP() << "skipped: no bf16 product on this CPU";
  Random random(12);
  const std::int64_t m = 17, n = 19, k = 40;
  for (const bool transposed : {false, true}) {
    std::vector<std::uint16_t> a(static_cast<std::size_t>(m * k)), b(static_cast<std::size_t>(n * k));
    for (auto& v : a) v = f32_to_bf16(static_cast<float>(random.normal()));
    for (auto& v : b) v = f32_to_bf16(static_cast<float>(random.normal()));
    std::vector<float> c(static_cast<std::size_t>(m * n));
    gemm_bf16({.b_transposed = transposed}, m, n, k, a.data(), k, b.data(), transposed ? k : n, c.data(), n);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0.0, magnitude = 0.0;
        for (std::int64_t l = 0; l < k; ++l) {
          const double term = double{bf16_to_f32(a[static_cast<std::size_t>(i * k + l)])} *
                              bf16_to_f32(b[static_cast<std::size_t>(transposed ? j * k + l : l * n + j)]);
          sum += term;
          magnitude += std::fabs(term);
        }
        ASSERT_NEAR(c[static_cast<std::size_t>(i * n + j)], sum, kRounding * (k + 1) * magnitude);
      }
    }
  }
}

TEST(Gemm, Int8IsExact) {
  Random random(13);
  const std::int64_t m = 7, n = 18, k = 65;
  for (const bool transposed : {false, true}) {
    std::vector<std::uint8_t> a(static_cast<std::size_t>(m * k));
    std::vector<std::int8_t> b(static_cast<std::size_t>(n * k));
    // 7-bit activations: instruction sets without VNNI add pairs of products in 16 bits and would saturate.
    for (auto& v : a) v = static_cast<std::uint8_t>(random.next() & 127U);
    for (auto& v : b) v = static_cast<std::int8_t>(random.next() & 255U);
    std::vector<std::int32_t> c(static_cast<std::size_t>(m * n));
    gemm_int8({.b_transposed = transposed}, m, n, k, a.data(), k, b.data(), transposed ? k : n, c.data(), n);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        std::int32_t sum = 0;
        for (std::int64_t l = 0; l < k; ++l) {
          sum += std::int32_t{a[static_cast<std::size_t>(i * k + l)]} *
                 b[static_cast<std::size_t>(transposed ? j * k + l : l * n + j)];
        }
        ASSERT_EQ(c[static_cast<std::size_t>(i * n + j)], sum);
      }
    }
  }
}

}  // namespace
}  // namespace krait::kernels
